//! Results as JUnit XML, for servers that show test reports.

use std::fmt::Write as _;

use super::report::{CaseReport, Report};

/// The whole document.
pub(super) fn document(report: &Report) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (tests, failures) = (report.cases.len(), report.failed);
    let _ = writeln!(text, "<testsuites tests=\"{tests}\" failures=\"{failures}\">");
    for of_file in report.cases.chunk_by(|a, b| a.file == b.file) {
        suite(&mut text, of_file);
    }
    text.push_str("</testsuites>\n");
    text
}

fn suite(text: &mut String, cases: &[CaseReport]) {
    let name = escape(&cases[0].file);
    let failures = cases.iter().filter(|case| !case.passed).count();
    let _ = writeln!(text, "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\">", cases.len());
    for case in cases {
        let place = format!("classname=\"{name}\" name=\"{}\" line=\"{}\"", escape(&case.name), case.line);
        if case.passed {
            let _ = writeln!(text, "    <testcase {place}/>");
            continue;
        }
        let fields: Vec<&str> = case.differences.iter().map(|difference| &*difference.field).collect();
        let message = escape(&fields.join(", "));
        let _ = writeln!(text, "    <testcase {place}>\n      <failure message=\"{message}\">");
        case.lines().iter().for_each(|line| {
            let _ = writeln!(text, "{}", escape(line));
        });
        text.push_str("      </failure>\n    </testcase>\n");
    }
    text.push_str("  </testsuite>\n");
}

/// Text for attributes and contents; characters that XML 1.0 has no way to write are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => {}
            character if character.is_control() => {}
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn markup_and_control_characters_do_not_get_through() {
        assert_eq!(super::escape("<a & \"b\">\u{1b}\n"), "&lt;a &amp; &quot;b&quot;&gt;\n");
    }
}
