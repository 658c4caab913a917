//! The graph of imports between the files of a crate, and its circles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::syntax::{Import, Source, parse};

struct File {
    path: PathBuf,
    source: Source,
}

/// The library of a crate: its modules by name, as `a::b`; the root is the empty name.
pub(crate) struct Crate {
    modules: BTreeMap<String, File>,
    folder: PathBuf,
}

/// Files that import each other.
pub(crate) struct Circle {
    pub(crate) files: BTreeSet<String>,
    /// The importing file, the imported file, and the names.
    ties: Vec<(String, String, BTreeSet<String>)>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files", self.files.len())?;
        for (from, to, names) in &self.ties {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            write!(f, "\n  {from} -> {to}: {}", names.join(", "))?;
        }
        Ok(())
    }
}

fn child(module: &str, name: &str) -> String {
    if module.is_empty() {
        name.to_owned()
    } else {
        format!("{module}::{name}")
    }
}

fn parent(module: &str) -> String {
    module
        .rsplit_once("::")
        .map_or("", |(parent, _)| parent)
        .to_owned()
}

impl Crate {
    pub(crate) fn read(folder: &Path) -> Self {
        let mut read = Self {
            modules: BTreeMap::new(),
            folder: folder.to_owned(),
        };
        read.add(String::new(), folder.join("lib.rs"), folder.to_owned());
        read
    }

    fn add(&mut self, module: String, path: PathBuf, folder: PathBuf) {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let source = parse(&text);
        for name in &source.modules {
            let alone = folder.join(format!("{name}.rs"));
            let path = if alone.exists() {
                alone
            } else {
                folder.join(name).join("mod.rs")
            };
            if path.exists() {
                self.add(child(&module, name), path, folder.join(name));
            }
        }
        self.modules.insert(module, File { path, source });
    }

    pub(crate) fn files(&self) -> usize {
        self.modules.len()
    }

    /// Returns the module whose file defines the name that `path` means in `module`.
    ///
    /// Returns `None` if the name is of another crate, or is itself a module.
    fn target(&self, module: &str, path: &[String], depth: usize) -> Option<String> {
        // Two globs may name each other.
        if depth > 16 {
            return None;
        }
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => String::new(),
            "self" => module.to_owned(),
            "super" => parent(module),
            name if self.modules.contains_key(&child(module, name)) => child(module, name),
            name => {
                let imports = &self.modules[module].source.imports;
                let import = imports
                    .iter()
                    .find(|import| import.name == name && import.path != path)?;
                let path: Vec<_> = import.path.iter().chain(rest).cloned().collect();
                return self.target(module, &path, depth + 1);
            }
        };
        loop {
            let (name, after) = rest.split_first()?;
            let is_up = name == "super";
            let next = child(&at, name);
            if !is_up && !self.modules.contains_key(&next) {
                return self.definer(at, name, after, depth);
            }
            at = if is_up { parent(&at) } else { next };
            rest = after;
        }
    }

    fn definer(&self, at: String, name: &str, after: &[String], depth: usize) -> Option<String> {
        let source = &self.modules[&at].source;
        if name == "*" || source.defines.iter().any(|defined| defined == name) {
            return Some(at);
        }
        let handed = |import: &&Import| import.name == name || import.name == "*";
        for import in source.imports.iter().filter(handed) {
            let mut path = import.path.clone();
            if import.name == "*" {
                path.push(name.to_owned());
            }
            path.extend(after.iter().cloned());
            if let Some(module) = self.target(&at, &path, depth + 1)
                && (import.name != "*" || self.modules[&module].source.defines.iter().any(|own| own == name))
            {
                return Some(module);
            }
            if import.name == name {
                // The name is of another crate.
                return None;
            }
        }
        Some(at)
    }

    /// Returns the modules that use each other, with the names.
    fn arrows(&self) -> BTreeMap<(String, String), BTreeSet<String>> {
        let mut arrows: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for (module, file) in &self.modules {
            let mut add = |path: &[String]| {
                if let Some(target) = self.target(module, path, 0)
                    && target != *module
                {
                    let name = path.last().cloned().unwrap_or_default();
                    arrows.entry((module.clone(), target)).or_default().insert(name);
                }
            };
            for import in &file.source.imports {
                // A bare re-export passes a name on and does not use it.
                if !import.is_public || file.source.words.contains(&import.name) {
                    let mut path = import.path.clone();
                    if import.name == "*" {
                        path.push("*".to_owned());
                    }
                    add(&path);
                }
            }
            for path in &file.source.paths {
                add(path);
            }
        }
        arrows
    }

    pub(crate) fn circles(&self) -> Vec<Circle> {
        let arrows = self.arrows();
        let reach: BTreeMap<_, _> = self
            .modules
            .keys()
            .map(|from| (from, reach(&arrows, from)))
            .collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for from in self.modules.keys() {
            let together: BTreeSet<_> = reach[from].iter().filter(|to| reach[to].contains(from)).collect();
            if together.is_empty() || !seen.insert(together.clone()) {
                continue;
            }
            let tie = |((from, to), names): (&(String, String), &BTreeSet<String>)| {
                (together.contains(from) && together.contains(to))
                    .then(|| (self.name(from), self.name(to), names.clone()))
            };
            circles.push(Circle {
                files: together.iter().map(|module| self.name(module)).collect(),
                ties: arrows.iter().filter_map(tie).collect(),
            });
        }
        circles
    }

    fn name(&self, module: &str) -> String {
        let path = &self.modules[module].path;
        path.strip_prefix(&self.folder)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

/// Returns all modules that `from` imports directly or indirectly.
fn reach(arrows: &BTreeMap<(String, String), BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(module) = open.pop() {
        for (_, to) in arrows.keys().filter(|(own, _)| *own == module) {
            if found.insert(to.clone()) {
                open.push(to.clone());
            }
        }
    }
    found
}
