//! The colours of figures on a dark background.
//!
//! Figures are made for paper, with their colours in attributes. In dark mode, rules of the style sheet, which override
//! attributes, replace the colours of the palette. The colours of maps stand for numbers and stay.

use std::fmt::Write as _;

use plotters::style::RGBColor;

use crate::report::figures::palette::{GREY, INK, MAX_SERIES, PALE, SHADES, series, shade, tint};

const WHITE: RGBColor = RGBColor(255, 255, 255);
/// The shadow below a surface.
const SHADOW: RGBColor = RGBColor(0xf7, 0xf7, 0xf7);
/// The background of figures, as in the style sheet.
const GROUND: RGBColor = RGBColor(0x1c, 0x1c, 0x1f);
/// Minimum contrast with the background (that of small text in WCAG 2.1).
const CONTRAST: f64 = 4.5;

/// Rules for the style sheet.
pub(super) fn rules() -> String {
    let mut rules = String::from("@media screen and (prefers-color-scheme: dark) {\n");
    for (light, dark) in colors().into_iter().map(|(light, dark)| (hex(light), hex(dark))) {
        let _ = writeln!(
            rules,
            ".picture [fill=\"{light}\"] {{ fill: {dark}; }} .picture [stroke=\"{light}\"] {{ stroke: {dark}; }}"
        );
    }
    rules + "}\n"
}

/// The colours of the palette, each with its replacement.
fn colors() -> Vec<(RGBColor, RGBColor)> {
    let plain = [
        (WHITE, GROUND),
        (SHADOW, RGBColor(0x28, 0x28, 0x2c)),
        (PALE, RGBColor(0x4c, 0x4c, 0x52)),
        (INK, RGBColor(0xe8, 0xe8, 0xea)),
    ];
    let shades = (0..MAX_SERIES).flat_map(|index| (0..SHADES).map(move |variant| shade(series(index), variant)));
    let tinted = shades.chain([GREY]).flat_map(|color| {
        let dark = readable(color);
        // A little more than in `tint`, since dark shades are harder to distinguish.
        [(color, dark), (tint(color), mixed(GROUND, dark, 0.3))]
    });
    plain.into_iter().chain(tinted).collect()
}

/// `color` with as much white as the contrast needs.
fn readable(color: RGBColor) -> RGBColor {
    let mut lighter = (0..20).map(|step| mixed(color, WHITE, f64::from(step) / 20.0));
    lighter.find(|color| contrast(*color, GROUND) >= CONTRAST).unwrap_or(WHITE)
}

fn mixed(RGBColor(r, g, b): RGBColor, with: RGBColor, share: f64) -> RGBColor {
    let channel = |from: u8, to: u8| (f64::from(from) + share * (f64::from(to) - f64::from(from))).round() as u8;
    RGBColor(channel(r, with.0), channel(g, with.1), channel(b, with.2))
}

/// As WCAG 2.1 defines it.
fn contrast(a: RGBColor, b: RGBColor) -> f64 {
    let luminance = |RGBColor(r, g, b): RGBColor| {
        let linear = |channel: u8| {
            let share = f64::from(channel) / 255.0;
            if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::write_figures;
    use crate::report::synthetic;

    #[test]
    fn contrast_is_that_of_the_standard() {
        assert!((contrast(RGBColor(0, 0, 0), WHITE) - 21.0).abs() < 1e-12);
        // The standard's well-known example of a grey that just fails 4.5.
        let grey = contrast(RGBColor(0x77, 0x77, 0x77), WHITE);
        assert!((4.47..4.49).contains(&grey), "{grey}");
    }

    #[test]
    fn every_colour_stands_out_in_the_dark_and_is_its_own() {
        let found = colors();
        for (light, dark) in &found {
            let line = (0..MAX_SERIES).map(series).chain([GREY, INK]).any(|color| color == *light);
            assert!(!line || contrast(*dark, GROUND) >= CONTRAST, "{}: {}", hex(*light), hex(*dark));
        }
        let (mut light, mut dark): (Vec<_>, Vec<_>) =
            found.iter().map(|(light, dark)| (hex(*light), hex(*dark))).unzip();
        for list in [&mut light, &mut dark] {
            list.sort();
            list.dedup();
            assert_eq!(list.len(), found.len(), "{list:?}");
        }
        assert!(include_str!("style.css").contains(&format!("--figure: {};", hex(GROUND))));
    }

    #[test]
    fn no_line_or_area_of_a_figure_keeps_its_colour_in_the_dark() {
        let folder = tempfile::tempdir().unwrap();
        write_figures(&synthetic::report(), crate::report::figures::Target::new(folder.path(), Default::default()))
            .unwrap();
        let rules = rules();
        for name in ["spectrum", "density_linear", "density_log_abs", "slices"] {
            let svg = std::fs::read_to_string(folder.path().join(format!("{name}.svg"))).unwrap();
            for attribute in ["fill=\"#", "stroke=\"#"] {
                for color in svg.split(attribute).skip(1).filter_map(|rest| rest.get(..6)) {
                    assert!(rules.contains(&format!("[{attribute}{color}\"]")), "{name}: {attribute}{color}");
                }
            }
        }
    }
}
