//! Names from strangers, made harmless to look at.

use std::borrow::Cow;

/// Whether a terminal, an editor or a page obeys the letter in place of showing it: controls, separators of lines, turns of
/// the direction of writing, and the two codes that no XML may hold.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(letter, '\u{fffe}' | '\u{ffff}')
}

/// `text` on one line, with such letters written as in JSON: `\n`, `\u001b`. So JSON stays what it is.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed)
}

/// The same line by line: `text` is laid out in lines by its writer.
pub(crate) fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| letter != '\n' && is_obeyed(letter))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            letter if !is_escaped(letter) => escaped.push(letter),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            letter => escaped.push_str(&format!("\\u{:04x}", u32::from(letter))),
        }
    }
    Cow::Owned(escaped)
}

/// What every writer of names is tried with.
#[cfg(test)]
pub(crate) const HOSTILE: &str =
    "\u{1b}[2Jevil\n\\input{/etc/passwd}<script>\u{7f}\u{9b}\u{202e}\u{2066}\u{2028}\u{2029}\u{7}\r\u{ffff}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_obeyed_is_written_out_and_the_rest_stays() {
        let expected = r"\u001b[2Jevil\n\input{/etc/passwd}<script>\u007f\u009b\u202e\u2066\u2028\u2029\u0007\r\uffff";
        assert_eq!(visible(HOSTILE), expected);
        for plain in ["", "λ₁ ± 0.1 “ü” 漢字 \\n", "e\u{301} \u{200d} 🙂"] {
            assert!(matches!(visible(plain), Cow::Borrowed(same) if same == plain));
        }
        assert_eq!(visible_lines("a\n\tb\u{1b}"), "a\n\\tb\\u001b");
        let raw = serde_json::json!({"name": HOSTILE});
        let again: serde_json::Value = serde_json::from_str(&visible_lines(&format!("{raw:#}"))).unwrap();
        assert_eq!(again, raw);
    }
}
