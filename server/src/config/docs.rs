//! `docs/config.md`, written from the table of settings. A test keeps the file equal to this; `UPDATE_DOCS=1` rewrites it.

use super::settings::{Settings, TABLE};
use super::value::pretty;

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `UPDATE_DOCS=1 cargo test -p varve-server --lib config`; do not edit. -->

Every setting can be a flag of `varve serve`, an environment variable or a key of the TOML file that `--config FILE` names.
A flag wins over the variable, the variable over the file, the file over the default.
Settings in bytes take `KiB`, `MiB`, `GiB`, `TiB`; settings in milliseconds take durations such as `15s` or `30d`.
A key or value that is not understood is an error: nothing is ignored.
";

/// The whole text of `docs/config.md`.
pub fn markdown() -> String {
    let defaults = Settings::default();
    let mut out = String::from(INTRODUCTION);
    let sections = [
        ("server", "Server", "Top level of the file."),
        ("engine", "Storage", "Table `[engine]` of the file."),
        ("otlp", "OTLP", "Table `[otlp]` of the file. The words are those of Prometheus's section of the same name."),
        (
            "limits",
            "Limits",
            "Table `[limits]` of the file. An answer that refuses something names the limit and its setting.",
        ),
    ];
    for (section, title, place) in sections {
        out.push_str(&format!("\n## {title}\n\n{place}\n\n"));
        out.push_str("| setting | flag | variable | default | meaning |\n|---|---|---|---|---|\n");
        for setting in TABLE.iter().filter(|setting| setting.section == section) {
            out.push_str(&format!(
                "| `{}` | `--{}` | `{}` | `{}` | {} |\n",
                setting.name,
                setting.flag(),
                setting.variable(),
                pretty(setting.kind, &(setting.show)(&defaults)),
                setting.doc,
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test that reads and, when asked, writes a document of the source tree"
    )]
    fn config_md_is_what_the_table_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
        let expected = super::markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "docs/config.md is out of date; run `UPDATE_DOCS=1 cargo test -p varve-server --lib config`"
        );
    }
}
