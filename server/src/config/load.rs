//! Puts settings together: flags over environment over file over defaults. What is not understood is an error that
//! names where it stands; nothing is ignored.

use std::path::{Path, PathBuf};

use super::settings::{Setting, Settings, TABLE};
use super::value::Kind;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The configuration file cannot be read.
    #[error("configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is not TOML.
    #[error("configuration file {path}: {what}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what, as the TOML reader says it.
        what: String,
    },
    /// A key that is no setting, or a value that does not fit.
    #[error("{place}: {what}")]
    Value {
        /// Flag, variable or file and key.
        place: String,
        /// What is wrong.
        what: String,
    },
}

/// Finds the value of a setting among the flags (which include the environment).
pub type Given<'a> = &'a dyn Fn(&Setting) -> Option<String>;

/// Defaults, then the file, then what was given.
pub fn load(file: Option<&Path>, given: Given<'_>) -> Result<Settings, LoadError> {
    let mut settings = Settings::default();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        take_toml(&mut settings, path, &text)?;
    }
    for setting in TABLE {
        if let Some(text) = given(setting) {
            (setting.take)(&mut settings, &text).map_err(|what| LoadError::Value {
                place: format!("--{} (or {})", setting.flag(), setting.variable()),
                what,
            })?;
        }
    }
    settings.check().map_err(|what| LoadError::Value { place: "configuration".to_owned(), what })?;
    Ok(settings)
}

fn take_toml(settings: &mut Settings, path: &Path, text: &str) -> Result<(), LoadError> {
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| LoadError::Syntax { path: path.to_owned(), what: e.to_string() })?;
    for (key, value) in &table {
        match value {
            toml::Value::Table(inner) if matches!(key.as_str(), "engine" | "otlp" | "limits") => {
                for (name, value) in inner {
                    take_key(settings, path, &format!("{key}.{name}"), value)?;
                }
            }
            _ => take_key(settings, path, key, value)?,
        }
    }
    Ok(())
}

fn take_key(settings: &mut Settings, path: &Path, key: &str, value: &toml::Value) -> Result<(), LoadError> {
    let wrong = |what: String| LoadError::Value { place: format!("{}: `{key}`", path.display()), what };
    let setting = TABLE
        .iter()
        .find(|setting| setting.key() == key)
        .ok_or_else(|| wrong("there is no such setting; docs/config.md lists them all".to_owned()))?;
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(switch) => switch.to_string(),
        toml::Value::Array(values) if setting.kind == Kind::Names => {
            let names = values.iter().map(|value| value.as_str());
            let names: Option<Vec<&str>> = names.collect();
            names.ok_or_else(|| wrong("expected a list of texts".to_owned()))?.join(",")
        }
        _ => return Err(wrong("expected a text, a whole number, true or false".to_owned())),
    };
    (setting.take)(settings, &text).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        take_toml(&mut settings, Path::new("varve.toml"), text).map_err(|e| e.to_string())?;
        Ok(settings)
    }

    #[test]
    fn a_file_sets_each_section() {
        let settings =
            from_toml("listen = \"0.0.0.0:1\"\nself_scrape = false\n[limits]\nquery_ms_max = \"5s\"\nseries_max = 7\n")
                .unwrap();
        assert_eq!(settings.server.listen, "0.0.0.0:1");
        assert!(!settings.server.self_scrape);
        let listed = from_toml("enable_feature = [\"use-start-timestamps\", \"promql-duration-expr\"]").unwrap();
        assert!(listed.server.enable_feature.of_queries().start_timestamps);
        assert!(from_toml("enable_feature = [1]").is_err());
        assert_eq!(settings.limits.query_ms_max, 5_000);
        assert_eq!(settings.limits.series_max, 7);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert!(from_toml("[limits]\nquery_msmax = 1").unwrap_err().contains("`limits.query_msmax`"));
        assert!(from_toml("[limits]\nquery_ms_max = 1.5").unwrap_err().contains("`limits.query_ms_max`"));
        assert!(from_toml("= 1").unwrap_err().contains("varve.toml"));
        assert!(from_toml("[nosuch]\na = 1").unwrap_err().contains("`nosuch`"));
    }

    #[test]
    fn flags_win() {
        let given = |setting: &Setting| (setting.name == "query_ms_max").then(|| "7s".to_owned());
        assert_eq!(load(None, &given).unwrap().limits.query_ms_max, 7_000);
        let bad = |setting: &Setting| (setting.name == "query_ms_max").then(|| "soon".to_owned());
        assert!(load(None, &bad).unwrap_err().to_string().contains("--limit-query-ms-max"));
    }
}
