//! The description as a page for people: made here, without a script, so that it needs nothing from anywhere.

use std::fmt::Write as _;

use serde_json::Value;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>foreshore: HTTP</title>
<style>
  :root { color-scheme: light dark; font: 1rem/1.55 system-ui, sans-serif }
  body { max-width: 56rem; margin: 2rem auto; padding: 0 1.5rem }
  code, pre { font: .9em ui-monospace, monospace }
  pre { overflow-x: auto; padding: .75rem; border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: .4rem }
  h2 { margin-top: 2.5rem } h3 { margin: 1.75rem 0 .25rem }
  h3 b { display: inline-block; min-width: 4.2rem; font: 600 .85em ui-monospace, monospace }
  table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }
  details { margin: .25rem 0 } summary { cursor: pointer }
</style>
"#;

/// Methods in the order in which they are shown.
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// The page.
pub(super) fn page(document: &Value, codes: &[(&str, u16, &str, &str)]) -> String {
    let mut page = HEAD.to_owned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let info = &document["info"];
    let _ = write!(
        page,
        "<h1>{} {}</h1><p>{}.</p><p>{}</p><p>The same for programs: <a href=\"/openapi.json\">/openapi.json</a>, OpenAPI {}.</p>",
        escape(&text(&info["title"])),
        escape(&text(&info["version"])),
        escape(&text(&info["summary"])),
        prose(&text(&info["description"])),
        escape(&text(&document["openapi"])),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = text(&tag["name"]);
        let _ = write!(page, "<h2>{}</h2><p>{}</p>", escape(&name), prose(&text(&tag["description"])));
        for (path, operations) in document["paths"].as_object().into_iter().flatten() {
            let methods = METHODS.iter().filter_map(|method| Some((method, operations.get(method)?)));
            for (method, operation) in methods.filter(|(_, operation)| operation["tags"][0] == tag["name"]) {
                show_operation(&mut page, document, (path, method), operation);
            }
        }
    }
    page.push_str("<h2>Shapes</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let shape = serde_json::to_string_pretty(schema).unwrap_or_default();
        let name = escape(name);
        let _ = write!(
            page,
            "<details id=\"shape-{name}\"><summary><code>{name}</code></summary><pre>{}</pre></details>",
            escape(&shape)
        );
    }
    page.push_str("<h2>Problems</h2><table><tr><th>code<th>status<th>what it means<th>what to do");
    for (code, status, meaning, hint) in codes {
        let (meaning, hint) = (prose(meaning), prose(hint));
        let _ = write!(page, "<tr id=\"{code}\"><td><code>{code}</code><td>{status}<td>{meaning}<td>{hint}");
    }
    page.push_str("</table></html>\n");
    page
}

fn show_operation(page: &mut String, document: &Value, (path, method): (&str, &str), operation: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, method) = (escape(&text(&operation["operationId"])), method.to_uppercase());
    let _ = write!(page, "<h3 id=\"{id}\"><b>{method}</b> <code>{}</code></h3>", escape(path));
    let _ = write!(page, "<p>{}. {}</p>", prose(&text(&operation["summary"])), prose(&text(&operation["description"])));
    page.push_str("<table>");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = resolve(document, parameter);
        let _ = write!(
            page,
            "<tr><td><code>{}</code><td>{}<td>{}",
            escape(&text(&parameter["name"])),
            escape(&text(&parameter["in"])),
            prose(&text(&parameter["description"])),
        );
    }
    for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let _ = write!(page, "<tr><td>body<td><code>{}</code><td>{}", escape(kind), shape(&content["schema"]));
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if status.ends_with("XX") {
            continue;
        }
        let content = response["content"].as_object().into_iter().flatten().next();
        let kind =
            content.map_or(String::new(), |(kind, content)| format!("{} {}", escape(kind), shape(&content["schema"])));
        let about = prose(&text(&response["description"]));
        let _ = write!(page, "<tr><td><code>{}</code><td>{kind}<td>{about}", escape(status));
    }
    page.push_str("</table>");
}

/// What a reference leads to.
fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let target = value["$ref"].as_str().and_then(|reference| document.pointer(reference.trim_start_matches('#')));
    target.unwrap_or(value)
}

/// A link to a shape that has a name.
fn shape(schema: &Value) -> String {
    let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    name.map(escape).map_or(String::new(), |name| format!("<a href=\"#shape-{name}\">{name}</a>"))
}

/// Prose with `code` in it.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(n, part)| if n % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) }).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::super::problem::CODES;
    use super::*;

    #[test]
    fn everything_that_is_described_is_shown_and_nothing_is_fetched() {
        let document = super::super::document();
        let page = page(&document, &CODES);
        for (path, operations) in document["paths"].as_object().unwrap() {
            for operation in operations.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(page.contains(&format!("<h3 id=\"{id}\">")), "{path}: {id}");
            }
        }
        for (code, ..) in CODES {
            assert!(page.contains(&format!("<tr id=\"{code}\">")), "{code}");
        }
        for reference in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(page.contains(&format!("id=\"{reference}\"")), "{reference} leads nowhere");
        }
        for fetched in ["<script", "src=", "@import", "url("] {
            assert!(!page.contains(fetched), "{fetched}");
        }
        assert_eq!(prose("a `b<c` & d"), "a <code>b&lt;c</code> &amp; d");
    }
}
