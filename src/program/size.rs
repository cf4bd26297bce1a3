//! Sizes that depend on the number of rows.

use std::fmt;
use std::ops::{Add, Mul, Sub};

use serde::{Deserialize, Serialize};

/// A size as a polynomial in the number of rows `N` of the batch: coefficients from the constant term up. Sums,
/// differences and products stay one; so does a division that comes out even.
///
/// ```
/// use flatness::program::Size;
///
/// let tokens = Size::rows() * Size::fixed(4) + Size::fixed(1);
/// assert_eq!((tokens.to_string().as_str(), tokens.at(8)), ("4·N + 1", 33));
/// assert_eq!((Size::rows() * Size::fixed(6)).divided_by(&Size::fixed(2)), Some(Size::rows() * Size::fixed(3)));
/// assert_eq!((Size::rows() + Size::fixed(1)).divided_by(&Size::rows()), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Size(Vec<i64>);

impl Size {
    /// A size that does not depend on the batch; −1 where PyTorch infers it from the others.
    pub fn fixed(size: i64) -> Self {
        Self(vec![size]).trimmed()
    }

    /// The number of rows.
    pub fn rows() -> Self {
        Self(vec![0, 1])
    }

    /// Whether it does not depend on the batch.
    pub(crate) fn is_fixed(&self) -> bool {
        self.0.len() <= 1
    }

    /// Its value for this number of rows, as far as an `i64` holds it.
    pub fn at(&self, rows: usize) -> i64 {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.0.iter().rev().fold(0i64, |sum, &factor| sum.saturating_mul(rows).saturating_add(factor))
    }

    /// The quotient, where it is a polynomial with whole coefficients again.
    pub fn divided_by(&self, divisor: &Self) -> Option<Self> {
        let (leading, degree) = (*divisor.0.last()?, divisor.0.len() - 1);
        let mut rest = self.0.clone();
        let mut quotient = vec![0; rest.len().saturating_sub(degree)];
        while rest.len() > degree {
            let (top, shift) = (*rest.last()?, rest.len() - 1 - degree);
            if top % leading != 0 {
                return None;
            }
            quotient[shift] = top / leading;
            for (place, factor) in divisor.0.iter().enumerate() {
                rest[shift + place] = rest[shift + place].checked_sub(quotient[shift].checked_mul(*factor)?)?;
            }
            rest.pop();
        }
        rest.iter().all(|&left| left == 0).then(|| Self(quotient).trimmed())
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn combine(a: Self, b: Self, f: fn(i64, i64) -> i64) -> Self {
        let term = |size: &Self, power: usize| size.0.get(power).copied().unwrap_or(0);
        Self((0..a.0.len().max(b.0.len())).map(|power| f(term(&a, power), term(&b, power))).collect()).trimmed()
    }
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::combine(self, other, i64::saturating_add)
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::combine(self, other, i64::saturating_sub)
    }
}

impl Mul for Size {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let mut product = vec![0i64; (self.0.len() + other.0.len()).saturating_sub(1)];
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in other.0.iter().enumerate() {
                product[i + j] = product[i + j].saturating_add(a.saturating_mul(*b));
            }
        }
        Self(product).trimmed()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = |(power, &factor): (usize, &i64)| match (power, factor) {
            (0, factor) => factor.to_string(),
            (1, 1) => "N".into(),
            (1, factor) => format!("{factor}·N"),
            (power, 1) => format!("N^{power}"),
            (power, factor) => format!("{factor}·N^{power}"),
        };
        let terms: Vec<String> =
            self.0.iter().enumerate().rev().filter(|(_, factor)| **factor != 0).map(term).collect();
        f.write_str(if terms.is_empty() { "0".into() } else { terms.join(" + ") }.as_str())
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    /// Reads what [`Display`](fmt::Display) writes.
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size such as 12 or 4·N + 1");
        let number = |text: &str| text.parse::<i64>().ok();
        let term = |term: &str| {
            let (factor, power) = match term.split_once("·") {
                Some((factor, power)) => (number(factor)?, power),
                None if term.starts_with('N') => (1, term),
                None => return Some(Self::fixed(number(term)?)),
            };
            let power = if power == "N" { 1 } else { power.strip_prefix("N^")?.parse::<u8>().ok()? };
            Some((0..power).fold(Self::fixed(factor), |size, _| size * Self::rows()))
        };
        text.split(" + ").try_fold(Self(Vec::new()), |sum, text| Some(sum + term(text)?)).ok_or_else(wrong)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_divide_where_it_comes_out_even() {
        let n = Size::rows;
        let product = (n() + Size::fixed(2)) * (n() * Size::fixed(3) - Size::fixed(1));
        assert_eq!(product.to_string(), "3·N^2 + 5·N + -2");
        assert_eq!(Size::try_from(product.to_string()), Ok(product.clone()));
        assert_eq!(product.at(10), 348);
        assert_eq!(product.divided_by(&(n() + Size::fixed(2))), Some(n() * Size::fixed(3) - Size::fixed(1)));
        assert_eq!(product.divided_by(&n()), None);
        assert_eq!(product.divided_by(&Size::fixed(0)), None);
        assert_eq!(Size::fixed(0).divided_by(&Size::fixed(5)), Some(Size::fixed(0)));
        assert_eq!((n() - n(), Size::fixed(0).at(7)), (Size::fixed(0), 0));
        assert_eq!(Size::try_from("0".to_owned()), Ok(Size::fixed(0)));
        for text in ["", "M", "2·", "N^", "N^-1", "N^999", "1.5", "99999999999999999999"] {
            assert!(Size::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
