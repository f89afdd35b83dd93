//! Where a document stops being JSON.

/// Text that is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} column {column}: {message}, at: {text}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// From 1, in bytes.
    pub column: usize,
    /// What the parser says.
    pub message: String,
    /// The text around the position, escaped and cut.
    pub text: String,
}

impl SyntaxError {
    /// `bytes` is the document that `error` is about.
    pub(super) fn at(bytes: &[u8], error: &serde_json::Error) -> Self {
        /// Bytes shown on either side of the position.
        const AROUND: usize = 30;
        let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
        let at = error.column().saturating_sub(1).min(line.len());
        let text = &line[at.saturating_sub(AROUND)..line.len().min(at + AROUND)];
        let text = match text.trim_ascii() {
            [] => "the end of the text".to_owned(),
            text => crate::escape::escape(text, 4 * AROUND),
        };
        // serde_json appends the position, which is reported by itself.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        SyntaxError { line: error.line(), column: error.column(), message, text }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::file::FileConfig;

    #[test]
    fn places_syntax_errors() {
        let error = FileConfig::parse(b"{\n  \"port\": 443,\n}").unwrap_err();
        assert_eq!((error.line, error.column), (3, 1));
        assert_eq!(error.to_string(), "line 3 column 1: trailing comma, at: }");
        let error = FileConfig::parse(b"{\"port\": 443} {}").unwrap_err();
        assert_eq!(error.to_string(), "line 1 column 15: trailing characters, at: {\"port\": 443} {}");
        let error = FileConfig::parse(b"").unwrap_err();
        assert_eq!(error.to_string(), "line 1 column 0: EOF while parsing a value, at: the end of the text");
    }
}
