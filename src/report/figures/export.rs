//! From one drawing to the three files of a figure: SVG and PNG of outlines, PDF with the font and its words.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Indent, Options, Tree, WriteOptions, fontdb};

use super::canvas::{Canvas, FONT, FONT_FAMILY, draw};
use crate::files::write_atomic;
use crate::report::ReportError;

/// Dots per inch of the PNG: 1980 dots across a column of 3.3 inches.
pub const PNG_DPI: f32 = 600.0;
/// SVG's own unit is 1/96 inch.
const SVG_DPI: f32 = 96.0;

/// Draws a figure of `size` points and writes it as `folder/name.svg`, `.png` and `.pdf`, each atomically; returns the
/// paths.
///
/// # Errors
/// [`ReportError::Figure`] where drawing or conversion fails, [`ReportError::File`] where a file cannot be written.
pub fn write_figure(
    folder: &Path,
    name: &str,
    size: (f64, f64),
    picture: impl FnOnce(&mut Canvas),
) -> Result<Vec<PathBuf>, ReportError> {
    let figure_error = |source| ReportError::Figure { figure: name.to_owned(), source };
    let files = convert(size, picture).map_err(figure_error)?;
    let write = |(extension, bytes): (&str, Vec<u8>)| {
        let path = folder.join(format!("{name}.{extension}"));
        write_atomic(&path, |file| file.write_all(&bytes))?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

type Files = [(&'static str, Vec<u8>); 3];

fn convert(size: (f64, f64), picture: impl FnOnce(&mut Canvas)) -> Result<Files, Box<dyn Error + Send + Sync>> {
    let (drawing, hints) = draw(size, picture)?;
    let worded = Tree::from_str(&drawing, &options())?;
    let svg = outline(&worded);
    let png = rasterize(&Tree::from_str(&svg, &Options::default())?)?;
    let page = svg2pdf::PageOptions { dpi: SVG_DPI };
    let text = svg2pdf::ConversionOptions { embed_text: true, ..Default::default() };
    let pdf = svg2pdf::to_pdf(&worded, text, page).map_err(|error| error.to_string())?;
    Ok([("svg", hints.attach(&svg).into_bytes()), ("png", png), ("pdf", pdf)])
}

/// With the one font, which every text is set in.
fn options() -> Options<'static> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    Options { fontdb: Arc::new(fonts), font_family: FONT_FAMILY.into(), ..Options::default() }
}

/// The picture with every letter as a path, so that it needs no font wherever it is opened.
fn outline(worded: &Tree) -> String {
    let written =
        WriteOptions { coordinates_precision: 2, transforms_precision: 5, indent: Indent::None, ..Default::default() };
    worded.to_string(&written)
}

fn rasterize(tree: &Tree) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let scale = PNG_DPI / SVG_DPI;
    let dots = |length: f32| (length * scale).round() as u32;
    let (width, height) = (dots(tree.size().width()), dots(tree.size().height()));
    let mut pixels = Pixmap::new(width, height).ok_or("the figure has no size")?;
    // The sheet ends within the last row of dots, which would be grey.
    pixels.fill(Color::WHITE);
    resvg::render(tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    // The sheet is opaque, so three channels hold it all; line art shrinks to a fifth when the encoder may search.
    let colors: Vec<u8> = pixels.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_deflate_compression(png::DeflateCompression::Level(6));
    encoder.set_filter(png::Filter::Adaptive);
    let per_metre = (PNG_DPI / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_metre, yppu: per_metre, unit: png::Unit::Meter }));
    encoder.write_header()?.write_image_data(&colors)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use resvg::usvg::Node;

    use crate::report::figures::canvas::{Align, COLUMN, SMALL, text_width};

    fn sample(canvas: &mut Canvas) {
        canvas.text("Hessian λ₁ ‖θ‖ 10⁻³ − ·", (20.0, 20.0), SMALL, Align::Left);
    }

    #[test]
    fn the_three_files_are_what_their_names_say() {
        let [svg, png, pdf] = convert((COLUMN, 50.0), sample).unwrap();
        let svg = String::from_utf8(svg.1).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("<path") && !svg.contains("<text"), "{svg}");
        let picture = Pixmap::decode_png(&png.1).unwrap();
        assert_eq!(picture.width(), 1980);
        assert!(picture.pixels().iter().any(|pixel| pixel.red() < 100), "nothing was drawn");
        let last = picture.pixels().len() - 1980;
        assert!(
            picture.pixels()[last..].iter().all(|pixel| pixel.red() == 255),
            "the last row is not part of the sheet"
        );
        let decoder = png::Decoder::new(std::io::Cursor::new(&png.1)).read_info().unwrap();
        // 600 dots per inch.
        assert_eq!(decoder.info().pixel_dims.map(|dims| dims.xppu), Some(23_622));
        assert!(pdf.1.starts_with(b"%PDF-") && pdf.1.ends_with(b"%%EOF"));
        let pdf = String::from_utf8_lossy(&pdf.1);
        // 3.3 inches in points.
        assert!(pdf.contains("/MediaBox [0 0 237.6"));
        // The letters are there as letters, with what each means.
        assert!(pdf.contains("/FontFile3") && pdf.contains("/ToUnicode") && pdf.contains("Inter"));
    }

    #[test]
    fn a_hostile_name_is_drawn_as_text() {
        let name = |canvas: &mut Canvas| canvas.text(crate::visible::HOSTILE, (20.0, 20.0), SMALL, Align::Left);
        let (svg, _) = draw((COLUMN, 50.0), name).unwrap();
        assert!(svg.contains("\\u001b[2Jevil\\n\\input{/etc/passwd}&lt;script&gt;\\u007f"), "{svg}");
        let [svg, ..] = convert((COLUMN, 50.0), name).unwrap();
        let svg = String::from_utf8(svg.1).unwrap();
        assert!(svg.contains("<path") && !svg.contains("script"), "{svg}");
    }

    #[test]
    fn measured_text_is_as_wide_as_drawn_text() {
        let text = "cross-entropy, mean over 50 000 rows, f32";
        let (svg, _) = draw((COLUMN, 50.0), |canvas| canvas.text(text, (20.0, 20.0), SMALL, Align::Left)).unwrap();
        let tree = Tree::from_str(&outline(&Tree::from_str(&svg, &options()).unwrap()), &Options::default()).unwrap();
        // One group scales the sheet; in it, the white ground comes first and the text last.
        let Some(Node::Group(sheet)) = tree.root().children().last() else { panic!("{svg}") };
        let drawn = sheet.children().last().map(|text| f64::from(text.abs_bounding_box().width()) * 72.0 / 96.0);
        let drawn = drawn.unwrap();
        // Ink is narrower than the advance by the side bearings, and the shaper kerns: 3 % in all.
        assert!((text_width(text, SMALL) / drawn - 1.0).abs() < 0.03, "{} {drawn}", text_width(text, SMALL));
    }
}
