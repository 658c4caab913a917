//! What is set for one cloud, by a table of the names that are known.
//!
//! Invariants: a property beats the environment, credentials as a set; a property that is not
//! understood is an error by its name; a variable that is not understood is reported by its name;
//! no value is shown.

use std::{collections::BTreeMap, fmt};

use pget_core::{Error, ErrorKind};

/// The settings of one cloud.
pub(crate) struct Table {
    /// How its variables begin.
    pub(crate) environment: &'static str,
    /// The first word of its properties, as in `aws.region`.
    pub(crate) word: &'static str,
    pub(crate) known: &'static [Known],
    /// Whether setting the first by property makes the environment's second void.
    pub(crate) supersedes: fn(&str, &str) -> bool,
}

/// One setting.
pub(crate) struct Known {
    name: &'static str,
    also: &'static [&'static str],
    kind: Kind,
}

enum Kind {
    Used,
    /// Has no bearing on reading.
    Idle,
    /// Belongs to the caller's client: refused as a property unless it has one of these values.
    Unless,
}

/// A setting that counts; `also` are further spellings.
pub(crate) const fn used(name: &'static str, also: &'static [&'static str]) -> Known {
    Known {
        name,
        also,
        kind: Kind::Used,
    }
}

/// A setting without a bearing on reading.
pub(crate) const fn idle(name: &'static str, also: &'static [&'static str]) -> Known {
    Known {
        name,
        also,
        kind: Kind::Idle,
    }
}

/// A setting of the caller's client, which is refused as a property unless it has one of `values`.
pub(crate) const fn unless(name: &'static str, values: &'static [&'static str]) -> Known {
    Known {
        name,
        also: values,
        kind: Kind::Unless,
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Property,
    Environment,
}

/// What is set for one cloud.
#[derive(Clone, Default)]
pub(crate) struct Values {
    all: BTreeMap<&'static str, (String, Origin)>,
    unknown: Vec<String>,
}

impl Values {
    /// Returns a value, from a property or else from the environment.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all.get(name).map(|(value, _)| value.as_str())
    }

    /// Returns a value that a property has set.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.of(name, Origin::Property)
    }

    /// Returns a value that the environment has set.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.of(name, Origin::Environment)
    }

    fn of(&self, name: &str, origin: Origin) -> Option<&str> {
        let (value, from) = self.all.get(name)?;
        (*from == origin).then_some(value.as_str())
    }

    /// Returns the first of several that is set.
    pub(crate) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// Returns a switch.
    pub(crate) fn switch(&self, name: &str) -> Result<Option<bool>, Error> {
        self.get(name).map(|value| is_on(name, value)).transpose()
    }

    /// Returns the variables that have the cloud's prefix and are not known.
    pub(crate) fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

impl fmt::Debug for Values {
    /// Names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all.keys()).finish()
    }
}

/// Reads a switch, in the spellings of the tools and of `object_store`.
pub(crate) fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// Reads a switch.
pub(crate) fn is_on(name: &str, value: &str) -> Result<bool, Error> {
    switch(value).ok_or_else(|| {
        let text = format!("{name} is true or false");
        Error::new(ErrorKind::InvalidArgument, "", text)
    })
}

impl Table {
    /// Applies the table to properties and to the environment's variables.
    pub(crate) fn apply(
        &self,
        properties: &[(String, String)],
        environment: &[(String, String)],
        others: &[&str],
    ) -> Result<Values, Error> {
        let mut values = Values::default();
        for (name, value) in properties {
            let Some(own) = self.own(name, others) else {
                continue;
            };
            let known = self.find(&own).ok_or_else(|| {
                let text = format!("property {name:?} is not known");
                Error::new(ErrorKind::InvalidArgument, "", text)
            })?;
            if known.refuses(value) {
                let text = format!("property {name:?} is not supported");
                return Err(Error::new(ErrorKind::Unsupported, "", text));
            }
            if matches!(known.kind, Kind::Used) {
                values.all.insert(known.name, (value.clone(), Origin::Property));
            }
        }
        let set: Vec<_> = values.all.keys().copied().collect();
        for (name, value) in environment {
            let Some(own) = name.strip_prefix(self.environment) else {
                continue;
            };
            let Some(known) = self.find(&own.to_ascii_lowercase()) else {
                values.unknown.push(name.clone());
                continue;
            };
            let void = set.iter().any(|property| (self.supersedes)(property, known.name));
            if matches!(known.kind, Kind::Used) && !void {
                let own_name = known.name == own.to_ascii_lowercase();
                let entry = (value.clone(), Origin::Environment);
                if own_name || !values.all.contains_key(known.name) {
                    values.all.insert(known.name, entry);
                }
            }
        }
        let control = |value: &str| value.chars().any(char::is_control);
        if values
            .all
            .iter()
            .any(|(name, (value, _))| !has_lines(name) && control(value))
        {
            let text = format!("a setting of {} has control characters", self.word);
            return Err(Error::new(ErrorKind::InvalidArgument, "", text));
        }
        Ok(values)
    }

    fn find(&self, name: &str) -> Option<&Known> {
        self.known.iter().find(|known| known.is(name))
    }

    /// Returns the property's name without the cloud's word, if it may be one of this cloud.
    fn own(&self, name: &str, others: &[&str]) -> Option<String> {
        let name = name.to_ascii_lowercase();
        if let Some((word, rest)) = name.split_once('.') {
            return (word == self.word).then(|| self.bare(rest).to_owned());
        }
        let begins = |word: &str| name.strip_prefix(word).is_some_and(|rest| rest.starts_with('_'));
        let foreign = others.iter().any(|word| *word != self.word && begins(word));
        (!foreign).then(|| self.bare(&name).to_owned())
    }

    fn bare<'a>(&self, name: &'a str) -> &'a str {
        let rest = name
            .strip_prefix(self.word)
            .and_then(|rest| rest.strip_prefix('_'));
        rest.unwrap_or(name)
    }
}

impl Known {
    fn is(&self, name: &str) -> bool {
        self.name == name || (!matches!(self.kind, Kind::Unless) && self.also.contains(&name))
    }

    fn refuses(&self, value: &str) -> bool {
        let allowed = |allowed: &&str| switch(allowed).is_some() && switch(allowed) == switch(value);
        matches!(self.kind, Kind::Unless) && !self.also.iter().any(allowed)
    }
}

/// Whether a value is a document, which may have more than one line.
fn has_lines(name: &str) -> bool {
    name == "service_account_key"
}
