//! How series are told apart: colour, marker and dash. A method has its own in every figure, whatever is drawn beside it.

use plotters::style::RGBColor;

use super::canvas::{Dash, Marker, Pen, Sign, dash};
use super::palette::{MAX_SERIES, METHODS, series, shade};

/// How one series is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brush {
    /// Of lines and markers.
    pub color: RGBColor,
    /// Of its points.
    pub marker: Marker,
    /// Of its lines.
    pub dash: Dash,
}

impl Brush {
    /// That of series `index`.
    pub fn series(index: usize) -> Self {
        Self { color: series(index), marker: Marker::series(index), dash: dash(index) }
    }

    /// That of one name alone.
    pub fn named(name: &str) -> Self {
        method(name).map_or(Self::series(0), Self::series)
    }

    /// For its points.
    pub fn sign(self, hollow: bool) -> Sign {
        Sign { marker: self.marker, color: self.color, hollow }
    }

    /// For its lines.
    pub fn pen(self, width: f64) -> Pen {
        Pen { color: self.color, width, dash: self.dash }
    }
}

/// A brush for each name. Names with a method in them, such as `sam rho=0.1`, have its colour, or a shade of it from the
/// second on; the others share what is left in the order of their appearance.
pub fn brushes<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Brush> {
    let places: Vec<Option<usize>> = names.into_iter().map(method).collect();
    let free: Vec<usize> = (0..MAX_SERIES).filter(|place| !places.contains(&Some(*place))).collect();
    let mut met = [0; MAX_SERIES];
    let mut others = 0;
    let brush = |place: &Option<usize>| match *place {
        Some(place) => {
            let again = met[place];
            met[place] += 1;
            let Brush { marker, dash, .. } = Brush::series(place + again);
            Brush { color: shade(series(place), again), marker, dash }
        }
        None => {
            others += 1;
            Brush::series(free.get((others - 1) % free.len().max(1)).copied().unwrap_or(others - 1))
        }
    };
    places.iter().map(brush).collect()
}

/// The method that a name speaks of.
fn method(name: &str) -> Option<usize> {
    let mut words = name.split(|letter: char| !letter.is_alphanumeric());
    words.find_map(|word| METHODS.iter().position(|method| method.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_looks_the_same_whatever_is_beside_it() {
        let all = brushes(METHODS);
        for (index, method) in METHODS.into_iter().enumerate() {
            assert_eq!(all[index], Brush::named(method));
            assert_eq!(brushes(["another", method])[1], all[index]);
            assert_eq!(brushes([method, "another", "third"])[0], all[index]);
            assert!(all[..index].iter().all(|other| other.color != all[index].color));
        }
        assert_eq!(Brush::named("fSGLD β⁻¹ = 10⁻¹⁴"), Brush::named("fsgld"));
        assert_eq!(Brush::named("optimizer=sam rho=0.1"), Brush::named("sam"));
    }

    #[test]
    fn names_without_a_method_and_variants_of_one_are_told_apart() {
        let many = brushes(["sgd", "one", "two", "sam rho=0.1", "sam rho=0.2", "three"]);
        for (index, brush) in many.iter().enumerate() {
            assert!(many[..index].iter().all(|other| other.color != brush.color), "{index}");
        }
        assert_eq!(brushes(METHODS.into_iter().chain(["other"]))[MAX_SERIES], Brush::series(0));
    }
}
