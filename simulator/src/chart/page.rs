//! The frame of one HTML page that needs nothing else: no script, no font, no network, light or dark as the reader has it. It is to be
//! heard as well as seen: headings in order, a contents list, tables with captions and named rows and columns. All text is escaped here.

use super::escape;
use std::fmt::Write as _;

/// So many parts are worth a list of contents.
const CONTENTS_MIN: usize = 3;

/// One part of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// Its heading; text, not HTML.
    pub heading: String,
    /// HTML: what this module gives, and the charts.
    pub body: String,
}

/// What stands in a cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// Text that leads to the part of the page with this place, from 0.
    Part(String, usize),
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Content {
    fn html(&self) -> String {
        match self {
            Self::Text(text) => escape(text),
            Self::Part(text, index) => {
                format!("<a href=\"#{}\">{}</a>", part(*index), escape(text))
            }
        }
    }
}

fn part(index: usize) -> String {
    format!("part-{}", index + 1)
}

/// A heading within a part.
#[must_use]
pub fn heading(content: &str) -> String {
    format!("<h3>{}</h3>\n", escape(content))
}

/// A paragraph.
#[must_use]
pub fn paragraph(content: &str) -> String {
    format!("<p>{}</p>\n", escape(content))
}

/// A list. Addresses of the web in it can be followed: those that begin with `http://` or `https://`, and nothing else.
#[must_use]
pub fn list(items: &[String]) -> String {
    let item = |item: &String| format!("<li>{}</li>\n", linked(item));
    format!("<ul>\n{}</ul>\n", items.iter().map(item).collect::<String>())
}

fn linked(text: &str) -> String {
    let word = |word: &str| {
        // Brackets around it and a full stop after it belong to the sentence.
        let bare = word.trim_start_matches(['(', '[', '"']);
        if !bare.starts_with("http://") && !bare.starts_with("https://") {
            return escape(word);
        }
        let address = bare.trim_end_matches(['.', ',', ';', ')', ']', '"', '\'']);
        let before = escape(&word[..word.len() - bare.len()]);
        let (address, after) = (escape(address), escape(&bare[address.len()..]));
        format!("{before}<a href=\"{address}\" rel=\"noopener noreferrer\">{address}</a>{after}")
    };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// What is shown when somebody asks for it.
#[must_use]
pub fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", escape(summary))
}

/// A table; the first row names the columns, the first cell of each other row names that.
#[must_use]
pub fn table<C: Clone + Into<Content>>(caption: &str, rows: &[Vec<C>]) -> String {
    let caption = escape(caption);
    let mut out = format!(
        "<div class=\"wide\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\n<caption>{caption}</caption>\n<thead>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let (tag, scope) = match (index, column) {
                (0, _) => ("th", " scope=\"col\""),
                (_, 0) => ("th", " scope=\"row\""),
                _ => ("td", ""),
            };
            let cell: Content = cell.clone().into();
            let _ = write!(out, "<{tag}{scope}>{}</{tag}>", cell.html());
        }
        out.push_str(if index == 0 { "</tr>\n</thead>\n<tbody>\n" } else { "</tr>\n" });
    }
    out.push_str("</tbody></table></div>\n");
    out
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--dim:#6a737d;--grid:#e3e6ea;\
--c0:#2563b0;--c1:#c8551b;--c2:#2a8a4a;--c3:#8a3fb0;--c4:#a98500;--c5:#0b8a94;--c6:#b8336a;--c7:#5a5f66}\
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e6e8eb;--dim:#98a1ab;--grid:#2a2f36;\
--c0:#6ea8f0;--c1:#f0915a;--c2:#63c583;--c3:#c48ae6;--c4:#d9b93b;--c5:#4cc4ce;--c6:#ec7fab;--c7:#a3a9b0}}\
body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
a{color:var(--c0)}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}h3{font-size:1rem;margin-top:1.3rem}\
nav h2{margin-top:1rem}nav ul{columns:20rem}li{overflow-wrap:anywhere}\
svg{width:100%;height:auto;min-width:36rem;max-width:48rem;display:block;margin:1rem 0}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}caption{text-align:left;color:var(--dim);padding:.25rem 0}\
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top}tbody th{font-weight:400}\
.wide{overflow-x:auto}pre{overflow-x:auto;border:1px solid var(--grid);padding:.7rem}\
svg text{fill:var(--ink);font:11px system-ui,sans-serif}svg .title{font-size:13px;font-weight:600}\
.grid{stroke:var(--grid)}.axis{stroke:var(--dim)}.mark{stroke:var(--dim);stroke-dasharray:2 3}\
.line{fill:none;stroke:currentColor;stroke-width:2}.dash{stroke-dasharray:5 3}\
.fill,.dot{fill:currentColor}.band{fill:currentColor;opacity:.18}.box{stroke:var(--dim)}.paper{fill:none}.tint{fill:currentColor;fill-opacity:.16}\
.lost{stroke:var(--c1);stroke-width:2}.strike{stroke:var(--c1);stroke-width:1.5}\
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}\
@media print{:root{--paper:#fff;--ink:#000}}";

/// One page with everything in it.
#[must_use]
pub fn page(title: &str, intro: &str, sections: &[Section]) -> String {
    let title = escape(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<main>\n<h1>{title}</h1>\n{}",
        paragraph(intro)
    );
    if sections.len() >= CONTENTS_MIN {
        out.push_str("<nav aria-labelledby=\"contents\"><h2 id=\"contents\">Contents</h2>\n<ul>\n");
        for (index, section) in sections.iter().enumerate() {
            let content = Content::Part(section.heading.clone(), index);
            let _ = writeln!(out, "<li>{}</li>", content.html());
        }
        out.push_str("</ul></nav>\n");
    }
    for (index, section) in sections.iter().enumerate() {
        let (id, heading) = (part(index), escape(&section.heading));
        let _ = write!(
            out,
            "<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{heading}</h2>\n{}</section>\n",
            section.body
        );
    }
    out.push_str("</main></body></html>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(heading: &str, body: String) -> Section {
        Section { heading: heading.into(), body }
    }

    #[test]
    fn text_of_others_stays_text() {
        let page = page("x\u{1}<", "", &[section("<i>", paragraph("a & <script>"))]);
        assert!(page.contains("&lt;i&gt;") && page.contains("&lt;script&gt;"));
        assert!(
            !page.contains("<script")
                && !page.contains('\u{1}')
                && !page.contains("http://www.w3.org/1999")
        );
        let cell = Content::Part("<b>\"".into(), 0);
        let table = table("<c>", &[vec![Content::Text("<t>".into())], vec![cell]]);
        assert!(
            table.contains("&lt;c&gt;</caption>") && table.contains("aria-label=\"&lt;c&gt;\"")
        );
        assert!(table.contains(">&lt;b&gt;&quot;</a>") && !table.contains("<b>"), "{table}");
    }

    #[test]
    fn only_addresses_of_the_web_can_be_followed() {
        let items = [
            "https://a.example/x?y=1&z=\"2\"",
            "javascript:alert(1) data:text/html,x //b.example HTTP:",
            "told of it (http://c.example/d).",
        ];
        let list = list(&items.map(String::from));
        assert_eq!(list.matches("<a ").count(), 2, "{list}");
        assert!(list.contains("<a href=\"https://a.example/x?y=1&amp;z=&quot;2\" rel="), "{list}");
        assert!(list.contains(">http://c.example/d</a>).</li>"), "{list}");
        assert!(list.contains("<li>javascript:alert(1) data:text/html,x //b.example HTTP:</li>"));
    }

    #[test]
    fn contents_lead_to_every_part_and_headings_are_in_order() {
        let body = heading("within") + &table("t", &[vec!["a".to_owned(); 2], vec!["b".into(); 2]]);
        let sections = ["one", "two", "three"].map(|heading| section(heading, body.clone()));
        let page = page("title", "intro", &sections);
        let mut level = 0;
        for tag in page.split('<').filter_map(|tag| tag.strip_prefix('h')) {
            let next = tag.chars().next().and_then(|c| c.to_digit(10)).unwrap_or(level);
            assert!(next <= level + 1, "{tag}");
            level = next;
        }
        assert_eq!(page.matches("<h1>").count(), 1);
        for target in page.split("href=\"#").skip(1) {
            let id = target.split('"').next().unwrap();
            assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        }
        assert_eq!(page.matches("href=\"#part-").count(), 3);
        assert!(page.contains("<th scope=\"row\">b</th><td>b</td>"), "{page}");
        assert!(!super::page("title", "", &sections[..2]).contains("<nav"));
    }
}
