//! A licence check that needs nothing but cargo: every package of the lock file must offer a licence that `deny.toml`
//! allows. `cargo deny` does more (advisories, sources, texts); this is what a machine without it can still know.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cargo;

/// Only what these pull in is looked at, so that the check downloads nothing that the build did not.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "wasm32-unknown-unknown"];

/// Refuses packages whose licence expression cannot be met from `deny.toml`'s list.
pub(crate) fn check() -> anyhow::Result<()> {
    let allowed = allowed_licences(&std::fs::read_to_string(cargo::root().join("deny.toml"))?)?;
    let mut packages = BTreeMap::new();
    for platform in PLATFORMS {
        let command = cargo::cargo(&format!("metadata --format-version 1 --locked --filter-platform {platform}"));
        let metadata: Value = serde_json::from_slice(&cargo::output(command)?)?;
        for package in metadata["packages"].as_array().context("cargo metadata lists packages")? {
            let id = format!("{} {}", package["name"], package["version"]);
            packages.insert(id, package["license"].as_str().unwrap_or_default().to_owned());
        }
    }
    let refused: Vec<String> = packages
        .iter()
        .filter(|(_, licence)| !satisfiable(licence, &allowed))
        .map(|(id, licence)| format!("{id} is under {licence:?}"))
        .collect();
    if !refused.is_empty() {
        bail!("licences that deny.toml does not allow:\n  {}", refused.join("\n  "));
    }
    println!("{} packages, every licence allowed by deny.toml", packages.len());
    Ok(())
}

/// The strings of `[licenses] allow = [ … ]`.
fn allowed_licences(deny: &str) -> anyhow::Result<Vec<String>> {
    let section = deny.split("[licenses]").nth(1).context("deny.toml has [licenses]")?;
    let list = section.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).context("…with a list")?.0;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Whether an SPDX expression (or the older `A/B` spelling) can be met with `allowed` alone.
fn satisfiable(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "~WITH~");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    !words.is_empty() && any_of(&words, &mut at, allowed) && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(words, at, allowed);
    }
    met
}

fn all_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word != "(" {
        let name = word.replace("~WITH~", " WITH ");
        return allowed.contains(&name);
    }
    let met = any_of(words, at, allowed);
    let closed = words.get(*at) == Some(&")");
    *at += 1;
    met && closed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_met_or_not() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"].map(str::to_owned);
        let cases = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT/Apache-2.0", true),
            ("ISC AND (GPL-3.0 OR ISC)", true),
            ("(GPL-3.0 OR MIT) AND GPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("", false),
        ];
        for (expression, met) in cases {
            assert_eq!(satisfiable(expression, &allowed), met, "{expression:?}");
        }
    }

    #[test]
    fn the_list_is_read_from_deny_toml() {
        let deny = "[bans]\ndeny = [\"x\"]\n[licenses]\nconfidence = 1\nallow = [\n  \"MIT\",\n  \"ISC\",\n]\n";
        assert_eq!(allowed_licences(deny).unwrap(), ["MIT", "ISC"]);
    }
}
