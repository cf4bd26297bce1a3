//! What a figure says where one points at it: titles of discs that nobody sees. Only the SVG has them.

use std::fmt::Write as _;

use plotters::style::RGBColor;

use super::number::significant;
use super::point::Point;
use crate::visible::visible;

/// Values at places of a sheet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hints {
    places: Vec<(Point, RGBColor, String)>,
    /// What the legend says of colours.
    names: Vec<(RGBColor, String)>,
}

/// More along one curve say nothing new.
pub const MOST_ALONG: usize = 60;
/// Radius of a disc in points.
const RADIUS: f64 = 4.0;
/// Pixels of a drawing in a point.
const PIXELS: f64 = 96.0 / 72.0;

impl Hints {
    /// Says `words` at a place where something of `color` is drawn.
    pub fn add(&mut self, at: Point, color: RGBColor, words: String) {
        let new = (at, color, words);
        // A curve and its markers meet.
        if !self.places.contains(&new) {
            self.places.push(new);
        }
    }

    /// What has `color` is `words`.
    pub fn name(&mut self, color: RGBColor, words: &str) {
        self.names.push((color, words.to_owned()));
    }

    /// The drawing with them, over everything else.
    pub fn attach(&self, svg: &str) -> String {
        let Some((drawing, end)) = svg.rsplit_once("</svg>").filter(|_| !self.places.is_empty()) else {
            return svg.to_owned();
        };
        let mut discs = String::from("<g fill=\"none\" pointer-events=\"all\">");
        for ((x, y), color, words) in &self.places {
            let own: Vec<&String> = self.names.iter().filter(|(own, _)| own == color).map(|(_, name)| name).collect();
            // A colour that stands for several things says nothing.
            let name = if let [name] = own[..] { format!("{name}, ") } else { String::new() };
            let words = visible(&(name + words)).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let (x, y, radius) = (PIXELS * x, PIXELS * y, PIXELS * RADIUS);
            let _ =
                write!(discs, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{words}</title></circle>");
        }
        format!("{drawing}{discs}</g></svg>{end}")
    }
}

/// The coordinates of a data point under the titles of its axes; a title may be empty.
pub fn words((x, y): (f64, f64), titles: [&str; 2]) -> String {
    let with = |title: &str, value: f64| {
        let number = significant(value, 4);
        let short = if number.contains('.') && !number.contains('×') {
            number.trim_end_matches('0').trim_end_matches('.')
        } else {
            &number
        };
        format!("{title} {short}").trim_start().to_owned()
    };
    format!("{}: {}", with(titles[0], x), with(titles[1], y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_says_its_value_and_whose_it_is() {
        const COLORS: [RGBColor; 2] = [RGBColor(1, 2, 3), RGBColor(4, 5, 6)];
        let mut hints = Hints::default();
        assert_eq!(hints.attach("<svg></svg>"), "<svg></svg>");
        hints.name(COLORS[0], "a <b>");
        ["two", "names"].iter().for_each(|name| hints.name(COLORS[1], name));
        hints.add((3.0, 6.0), COLORS[0], words((2.0, 0.012345), ["epoch", "loss"]));
        hints.add((0.0, 0.0), COLORS[1], words((2.0, -1.0), ["", "loss"]));
        let svg = hints.attach("<svg><path/></svg>\n");
        assert!(svg.starts_with("<svg><path/><g fill=\"none\"") && svg.ends_with("</g></svg>\n"), "{svg}");
        assert!(svg.contains("cx=\"4.0\" cy=\"8.0\" r=\"5.3\"><title>a &lt;b&gt;, epoch 2: loss 0.01235<"), "{svg}");
        assert!(svg.contains("<title>2: loss −1<"), "{svg}");
    }
}
