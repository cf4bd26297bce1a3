//! Colours that survive colour blindness and grey print.

use plotters::style::RGBColor;

/// Text and axes.
pub const INK: RGBColor = RGBColor(0x26, 0x26, 0x26);
/// Notes, and lines that only guide the eye.
pub const GREY: RGBColor = RGBColor(0x6e, 0x6e, 0x6e);
/// Ground of what was not measured.
pub const PALE: RGBColor = RGBColor(0xd9, 0xd9, 0xd9);

/// Okabe and Ito (2008), darkest first; its yellow is left out, because thin yellow lines vanish on white,
/// and its black is a dark grey.
const SERIES: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x59, 0x59, 0x59),
];

/// How many series can be told apart in one panel.
pub const MAX_SERIES: usize = SERIES.len();

/// Colour of series `index`.
pub fn series(index: usize) -> RGBColor {
    SERIES[index % MAX_SERIES]
}

/// The methods that have a colour of their own: the series of their place.
pub const METHODS: [&str; MAX_SERIES] = ["sgd", "fsgld", "sam", "asam", "sgld", "adamw", "rwp"];

/// How many shades a colour has.
pub const SHADES: usize = 4;

/// Shade `index` of `color`, from 0: itself, lighter, darker, lighter still, and again from the first.
pub fn shade(color: RGBColor, index: usize) -> RGBColor {
    match index % SHADES {
        0 => color,
        1 => mixed(color, 0.58, 255.0),
        2 => mixed(color, 0.62, 0.0),
        _ => mixed(color, 0.36, 255.0),
    }
}

/// A light version of `color`, for areas.
pub fn tint(color: RGBColor) -> RGBColor {
    mixed(color, 0.25, 255.0)
}

/// A share of `color`, the rest white (255) or black (0).
fn mixed(RGBColor(r, g, b): RGBColor, share: f64, with: f64) -> RGBColor {
    let channel = |c: u8| (with + share * (f64::from(c) - with)).round() as u8;
    RGBColor(channel(r), channel(g), channel(b))
}

/// Every 1/16 of the map viridis (Smith and van der Walt 2015).
const VIRIDIS: [u32; 17] = [
    0x440154, 0x48186a, 0x472d7b, 0x424086, 0x3b528b, 0x33638d, 0x2c728e, 0x26828e, 0x21918c, 0x1fa088, 0x28ae80,
    0x3fbc73, 0x5ec962, 0x84d44b, 0xaddc30, 0xd8e219, 0xfde725,
];

/// Viridis at `t` in 0..=1 (the dark end for NaN), linear between its table's entries.
pub fn viridis(t: f64) -> RGBColor {
    let last = VIRIDIS.len() - 1;
    let place = if t.is_nan() { 0.0 } else { t.clamp(0.0, 1.0) * last as f64 };
    let below = (place as usize).min(last - 1);
    let share = place - below as f64;
    let channel = |shift: u32| {
        let of = |entry: u32| f64::from((entry >> shift) & 0xff);
        (of(VIRIDIS[below]) * (1.0 - share) + of(VIRIDIS[below + 1]) * share).round() as u8
    };
    RGBColor(channel(16), channel(8), channel(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viridis_grows_lighter_from_end_to_end() {
        let light = |t: f64| {
            let RGBColor(r, g, b) = viridis(t);
            0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)
        };
        let lights: Vec<f64> = (0..=64).map(|i| light(f64::from(i) / 64.0)).collect();
        assert!(lights.windows(2).all(|pair| pair[1] > pair[0]), "{lights:?}");
        assert_eq!(viridis(f64::NAN), viridis(0.0));
    }
}
