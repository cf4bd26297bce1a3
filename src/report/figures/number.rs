//! Numbers as they are set in print: true minus signs, powers of ten.

/// `10ᵏ`.
pub fn power_of_ten(exponent: i32) -> String {
    let raised = |letter: char| match letter {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit.to_digit(10).unwrap_or(0)).unwrap_or('⁰'),
    };
    format!("10{}", exponent.to_string().chars().map(raised).collect::<String>())
}

pub(super) use crate::vocabulary::subscript;

/// `value` with `decimals` digits after the point; never `−0`.
pub fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let zero = !text.contains(|letter: char| ('1'..='9').contains(&letter));
    if zero { text.trim_start_matches('-').to_owned() } else { text.replace('-', "−") }
}

/// `value` to `digits` significant digits: `2100`, `0.31`, `3.8×10⁻⁷`.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string().replace('-', "−") };
    }
    // Rust's own scientific format rounds correctly, also where 9.99 becomes 10.
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-3..5).contains(&exponent) {
        let rounded: f64 = scientific.parse().unwrap_or(value);
        return fixed(rounded, (digits as i32 - 1 - exponent).max(0) as usize);
    }
    format!("{}×{}", mantissa.replace('-', "−"), power_of_ten(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_as_in_print() {
        assert_eq!(power_of_ten(-13), "10⁻¹³");
        assert_eq!(power_of_ten(204), "10²⁰⁴");
        assert_eq!(subscript(12), "₁₂");
        assert_eq!(fixed(-1.25, 1), "−1.2");
        assert_eq!(fixed(-0.001, 1), "0.0");
        assert_eq!(significant(2103.4, 3), "2100");
        assert_eq!(significant(-0.31256, 2), "−0.31");
        assert_eq!(significant(9.996, 3), "10.0");
        assert_eq!(significant(-3.84e-7, 2), "−3.8×10⁻⁷");
        assert_eq!(significant(f64::NEG_INFINITY, 2), "−inf");
        assert_eq!(significant(0.0, 2), "0");
    }
}
