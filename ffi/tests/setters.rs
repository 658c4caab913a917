//! Derives the setters of C++ and Go for every option that is one number or one time.
//!
//! `include/pget.h` has the name, the type and the text of each setter. An option of another kind
//! (a text, a switch, a function) is written by hand in each language.
//! `scripts/header.sh` writes the files, and these tests fail if they are stale.

mod support;

use std::{fmt::Write as _, fs};

use pget_testkit::committed;
use support::root;

const BEGIN: &str = "  // Written by scripts/header.sh from pget.h.\n";
const END: &str = "  // End of what scripts/header.sh writes.\n";

/// One setter of the header whose value is a number.
struct Setter {
    name: String,
    /// `uint32_t` or `uint64_t`.
    number: String,
    /// The name of the number, which is its unit.
    unit: String,
    /// The text before its last paragraph, which is about the return value in C.
    paragraphs: Vec<String>,
}

impl Setter {
    /// Parses a comment and the declaration that follows it.
    fn parse(item: &str) -> Option<Self> {
        let (comment, code) = item.split_once("*/")?;
        let code = code.split_once(';')?.0;
        let code = code.trim().strip_prefix("pget_status pget_options_set_")?;
        let (name, parameters) = code.strip_suffix(')')?.split_once('(')?;
        let parameters: Vec<_> = parameters.split(',').map(str::trim).collect();
        let ["pget_options *options", value] = parameters[..] else {
            return None;
        };
        let (number, unit) = value.split_once(' ')?;
        if !["uint32_t", "uint64_t"].contains(&number) {
            return None;
        }
        let lines = comment.lines().map(|line| line.trim().trim_start_matches('*'));
        let text = lines.map(str::trim).collect::<Vec<_>>().join("\n");
        let mut paragraphs: Vec<_> = text
            .split("\n\n")
            .map(|paragraph| paragraph.trim().replace('\n', " "))
            .collect();
        let last = paragraphs.pop()?;
        assert!(
            last.starts_with("Returns PGET_ERR_INVALID_ARGUMENT"),
            "{name}: {last}"
        );
        Some(Self {
            name: name.to_owned(),
            number: number.to_owned(),
            unit: unit.to_owned(),
            paragraphs,
        })
    }

    fn cxx(&self) -> String {
        let Self {
            name, number, unit, ..
        } = self;
        let head = format!("  options &{name}(std::{number} {unit}) {{");
        let body = format!("return set(pget_options_set_{name}(get(), {unit}));");
        let line = format!("{head} {body} }}\n");
        if line.len() <= 100 {
            line
        } else {
            format!("{head}\n    {body}\n  }}\n")
        }
    }

    fn go(&self) -> String {
        let Self {
            name, number, unit, ..
        } = self;
        let (function, words) = (camel(name), name.replace('_', " "));
        let mut text = String::new();
        for (index, paragraph) in self.paragraphs.iter().enumerate() {
            let paragraph = if index == 0 {
                let rest = paragraph.strip_prefix("Sets ");
                let rest = rest.unwrap_or_else(|| panic!("{name}: the text begins with Sets"));
                format!("With{function} sets {rest}")
            } else {
                text.push_str("//\n");
                paragraph.clone()
            };
            text.push_str(&wrapped(&in_go(&paragraph)));
        }
        let (parameter, helper) = match (unit.as_str(), number.as_str()) {
            ("milliseconds", _) => ("timeout time.Duration", format!("setDuration({words:?}, timeout")),
            (_, "uint32_t") => (
                &*format!("{unit} int"),
                format!("setNumber({words:?}, int64({unit}), math.MaxUint32"),
            ),
            _ => (
                &*format!("{unit} int64"),
                format!("setNumber({words:?}, {unit}, math.MaxUint64"),
            ),
        };
        write!(
            text,
            "func With{function}({parameter}) Option {{\n\
             \treturn {helper}, func(o *C.pget_options, v uint64) C.pget_status {{\n\
             \t\treturn C.pget_options_set_{name}(o, C.{number}(v))\n\
             \t}})\n\
             }}\n"
        )
        .expect("a text takes any number of bytes");
        text
    }
}

/// Returns `stall_timeout` as `StallTimeout`.
fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect()
}

/// Replaces the names of C functions by links to those of Go.
fn in_go(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let name = word.trim_end_matches(['.', ',', ';', ')']);
        let rest = &word[name.len()..];
        match name.strip_prefix("parallel_get_") {
            Some(name) => format!("[Get{}]{rest}", camel(name)),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns `text` as comment lines of at most 100 columns.
fn wrapped(text: &str) -> String {
    let mut lines = vec!["//".to_owned()];
    for word in text.split(' ') {
        if lines[lines.len() - 1].len() + 1 + word.len() > 100 {
            lines.push("//".to_owned());
        }
        let line = lines.last_mut().expect("a line");
        line.push(' ');
        line.push_str(word);
    }
    lines.join("\n") + "\n"
}

fn setters() -> Vec<Setter> {
    let header = fs::read_to_string(root().join("include/pget.h")).expect("include/pget.h");
    let setters: Vec<_> = header.split("/**").filter_map(Setter::parse).collect();
    assert!(
        setters.iter().any(|setter| setter.name == "chunk_size"),
        "the search finds setters"
    );
    setters
}

#[test]
fn the_setters_of_cxx_are_those_of_the_header() {
    let path = "include/pget.hpp";
    let text = fs::read_to_string(root().join(path)).expect(path);
    let (before, rest) = text.split_once(BEGIN).expect("where the setters begin");
    let (_, after) = rest.split_once(END).expect("where the setters end");
    let made: String = setters().iter().map(Setter::cxx).collect();
    committed(&root().join(path), &format!("{before}{BEGIN}{made}{END}{after}"));
    let header = fs::read_to_string(root().join("include/pget.h")).expect("include/pget.h");
    for part in header.split("pget_status pget_options_set_").skip(1) {
        let name = part.split('(').next().expect("a name");
        let call = format!("pget_options_set_{name}(");
        assert!(
            after.contains(&call) || made.contains(&call),
            "{path} lacks {name}"
        );
    }
}

#[test]
fn the_setters_of_go_are_those_of_the_header() {
    let setters: Vec<_> = setters().iter().map(Setter::go).collect();
    let head = [
        "// Code generated by scripts/header.sh from include/pget.h. DO NOT EDIT.\n\n",
        "package pget\n\n// #include <pget.h>\nimport \"C\"\n\n",
        "import (\n\t\"math\"\n\t\"time\"\n)\n\n",
    ];
    let head = head.concat();
    committed(
        &root().join("go/options_numbers.go"),
        &format!("{head}{}", setters.join("\n")),
    );
}
