//! drive: loads a whole server by remote write and asks it queries, over HTTP only, so that any store that takes
//! Prometheus's protocols can stand in the same table.
//!
//! ```text
//! drive make  --load FOLDER [--hosts 200] [--hours 6] [--connections 4]
//! drive send  --load FOLDER --url http://127.0.0.1:8278 [--pid PID] --save NAME.load.json
//! drive query --url http://127.0.0.1:8278 [--pid PID] [--folder DATA] [--runs 5] --save NAME.query.json
//! drive table --results FOLDER [--reference prometheus] NAME...
//! ```
//! `make` writes the requests once, so that all servers get the same bytes and making them costs none of the time
//! that is measured; `query` first measures the folder. CPU and memory are those of the process `--pid`. `compare.sh`
//! does all of it.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a driver: it measures wall time, starts threads, prints, and may stop at the first surprise"
)]

mod data;
mod http;
mod load;
mod process;
mod queries;
mod table;

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

#[derive(Default)]
struct Arguments {
    named: HashMap<String, String>,
    names: Vec<String>,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Arguments {
        let mut arguments = Arguments::default();
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(name) => {
                    let value = words.next().unwrap_or_else(|| panic!("--{name} wants a value"));
                    arguments.named.insert(name.to_owned(), value);
                }
                None => arguments.names.push(word),
            }
        }
        arguments
    }

    fn text(&self, name: &str) -> &str {
        self.named.get(name).unwrap_or_else(|| panic!("--{name} is missing"))
    }

    fn number(&self, name: &str, default: u32) -> u32 {
        self.named.get(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("--{name} wants a number")))
    }

    fn save(&self, figures: &Value) {
        std::fs::write(self.text("save"), figures.to_string()).unwrap();
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let arguments = Arguments::read(words);
    let (number, pid) = (|name, default| arguments.number(name, default), arguments.number("pid", 0));
    match command.as_str() {
        "make" => {
            let folder = Path::new(arguments.text("load"));
            load::make(folder, number("hosts", 200), number("hours", 6), number("connections", 4));
        }
        "send" => {
            let figures = load::send(arguments.text("url"), Path::new(arguments.text("load")), pid);
            println!("{figures:#}");
            arguments.save(&figures);
        }
        "query" => {
            let folder = arguments.named.get("folder").map(|folder| process::folder(Path::new(folder)));
            let mut figures = queries::ask_all(arguments.text("url"), pid, number("runs", 5));
            figures["folder"] = json!(folder);
            arguments.save(&figures);
        }
        "table" => {
            let reference = arguments.named.get("reference").map_or("prometheus", String::as_str);
            table::print(Path::new(arguments.text("results")), &arguments.names, reference);
        }
        _ => println!("drive make|send|query|table; the head of benches/src/bin/drive/main.rs tells their arguments"),
    }
}
