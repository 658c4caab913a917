//! The files of the AWS tools: `~/.aws/config` and `~/.aws/credentials`.
//!
//! Source: "Configuration and credential file settings" of the AWS CLI user guide. The grammar is
//! that of Python's `configparser`, as botocore reads them: keys in lower case, `=` or `:` between
//! key and value, comments on lines of their own, deeper lines continue a value.
//!
//! Invariant: no error repeats a value.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use pget_core::SourceError;

use crate::cloud::{
    context::{Home, read},
    keys::unusable,
};

/// One section: values by lower-case key. A nested value is its lines, each after a newline.
#[derive(Clone, Default)]
pub(crate) struct Section(BTreeMap<String, String>);

impl Section {
    /// Returns a value that is there and not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.trim().is_empty())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns `inner` of a nested value, as in `s3 =` with lines below it.
    pub(crate) fn nested(&self, key: &str, inner: &str) -> Option<&str> {
        let lines = self.get(key)?.strip_prefix('\n')?.lines();
        lines
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| name.trim() == inner)
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// Returns the names that stand in a nested value.
    pub(crate) fn nested_names(&self, key: &str) -> Vec<&str> {
        let lines = self.get(key).and_then(|value| value.strip_prefix('\n'));
        lines
            .into_iter()
            .flat_map(str::lines)
            .filter_map(|line| Some(line.split_once('=')?.0.trim()))
            .collect()
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Both files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    profiles: BTreeMap<String, Section>,
    sessions: BTreeMap<String, Section>,
    services: BTreeMap<String, Section>,
    /// The profiles as they stand in `credentials` alone.
    shared: BTreeMap<String, Section>,
    /// Where they were looked for, and whether they were there.
    looked: Vec<(PathBuf, bool)>,
}

impl Files {
    /// Reads both files. One that is not there is empty.
    ///
    /// # Errors
    /// If a file cannot be read or is not of this grammar.
    pub(crate) fn read(
        home: &Home,
        config: Option<&str>,
        credentials: Option<&str>,
    ) -> Result<Self, SourceError> {
        let mut files = Self::default();
        let config = config.unwrap_or("~/.aws/config");
        let credentials = credentials.unwrap_or("~/.aws/credentials");
        if let Some(text) = files.load(home, config)? {
            for (name, section) in parse(&text).map_err(|line| malformed(config, line))? {
                files.add_config(&name, section);
            }
        }
        if let Some(text) = files.load(home, credentials)? {
            for (name, section) in parse(&text).map_err(|line| malformed(credentials, line))? {
                let shared = files.shared.entry(name.clone()).or_default();
                shared.0.extend(section.0.clone());
                files.profiles.entry(name).or_default().0.extend(section.0);
            }
        }
        Ok(files)
    }

    fn load(&mut self, home: &Home, path: &str) -> Result<Option<String>, SourceError> {
        let Some(path) = home.path(path) else {
            return Ok(None);
        };
        let text = text_of(&path);
        let there = !matches!(&text, Ok(None));
        self.looked.push((path.clone(), there));
        text.map_err(|error| unusable(format!("cannot read {}: {}", path.display(), error.kind())))
    }

    fn add_config(&mut self, name: &str, section: Section) {
        let mut words = shlex::split(name).unwrap_or_default().into_iter();
        let (first, second) = (words.next(), words.next());
        let map = match (first.as_deref(), &second) {
            (Some("profile"), Some(_)) | (Some("default"), None) => &mut self.profiles,
            (Some("sso-session"), Some(_)) => &mut self.sessions,
            (Some("services"), Some(_)) => &mut self.services,
            // Plugins, previews and other tools' sections.
            _ => return,
        };
        let name = second.or(first).unwrap_or_default();
        map.entry(name).or_default().0.extend(section.0);
    }

    pub(crate) fn profile(&self, name: &str) -> Option<&Section> {
        self.profiles.get(name)
    }

    /// Returns what `credentials` alone says of a profile.
    pub(crate) fn shared(&self, name: &str) -> Option<&Section> {
        self.shared.get(name)
    }

    pub(crate) fn session(&self, name: &str) -> Option<&Section> {
        self.sessions.get(name)
    }

    /// Returns the endpoint that the profile's `services` section names for a service.
    pub(crate) fn endpoint_of(&self, profile: Option<&Section>, service: &str) -> Option<&str> {
        let name = profile?.get("services")?;
        self.services.get(name)?.nested(service, "endpoint_url")
    }

    /// Returns the files that were looked for, for people.
    pub(crate) fn looked(&self) -> String {
        let parts = self.looked.iter().map(|(path, there)| {
            let missing = if *there { "" } else { " (not there)" };
            format!("{}{missing}", path.display())
        });
        let text = parts.collect::<Vec<_>>().join(" and ");
        if text.is_empty() {
            "no file, as HOME is not set".into()
        } else {
            text
        }
    }
}

fn text_of(path: &Path) -> io::Result<Option<String>> {
    match read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()))
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn malformed(path: &str, line: usize) -> SourceError {
    unusable(format!(
        "{path}: line {line} is neither a section nor KEY = VALUE"
    ))
}

/// Returns the sections in their order, or the number of a line that does not fit the grammar.
fn parse(text: &str) -> Result<Vec<(String, Section)>, usize> {
    let mut sections: Vec<(String, Section)> = Vec::new();
    // The key whose value goes on, and how deep it stands.
    let mut open: Option<(String, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let depth = line.len() - line.trim_start().len();
        if let (Some((key, above)), Some((_, section))) = (&open, sections.last_mut())
            && depth > *above
        {
            let value = section.0.entry(key.clone()).or_default();
            value.push('\n');
            value.push_str(trimmed);
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            sections.push((name.0.trim().to_owned(), Section::default()));
            open = None;
            continue;
        }
        let at = trimmed.find(['=', ':']).ok_or(number + 1)?;
        let key = trimmed[..at].trim().to_ascii_lowercase();
        let (_, section) = sections.last_mut().ok_or(number + 1)?;
        section.0.insert(key.clone(), trimmed[at + 1..].trim().to_owned());
        open = Some((key, depth));
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(config: &str, credentials: &str) -> Result<Files, SourceError> {
        let folder = tempfile::tempdir().expect("a folder");
        let aws = folder.path().join(".aws");
        std::fs::create_dir(&aws).expect("a folder");
        std::fs::write(aws.join("config"), config).expect("a file");
        std::fs::write(aws.join("credentials"), credentials).expect("a file");
        let home = folder.path().to_str().expect("a path").to_owned();
        Files::read(&Home([("HOME".to_owned(), home)].into()), None, None)
    }

    #[test]
    fn both_files_make_one_profile() {
        let files = files(
            "# a comment\n[default]\nRegion = eu-west-3\noutput: json\n\n[profile \"two words\"]\nregion=a=b\ns3 =\n  \
             addressing_style = path\n  max_queue_size= 10\n; more\n[profile x]\nservices = local\n[services local]\ns3 =\n  \
             endpoint_url = http://h:1\n[sso-session s]\nsso_region = r\n[plugins]\na = b\n",
            "\u{feff}[default]\naws_access_key_id = AK\naws_secret_access_key = a:b=c#d\n[x]\nregion = later\n",
        )
        .expect("right");
        let default = files.profile("default").expect("default");
        assert_eq!(default.get("region"), Some("eu-west-3"));
        assert_eq!(default.get("output"), Some("json"));
        assert_eq!(default.get("aws_secret_access_key"), Some("a:b=c#d"));
        let two = files.profile("two words").expect("its name is quoted");
        assert_eq!(two.get("region"), Some("a=b"));
        assert_eq!(two.nested("s3", "addressing_style"), Some("path"));
        assert_eq!(two.nested_names("s3"), ["addressing_style", "max_queue_size"]);
        let x = files.profile("x");
        assert_eq!(x.and_then(|x| x.get("region")), Some("later"));
        assert_eq!(files.endpoint_of(x, "s3"), Some("http://h:1"));
        assert_eq!(files.endpoint_of(x, "sts"), None);
        assert_eq!(files.session("s").and_then(|s| s.get("sso_region")), Some("r"));
        assert!(!format!("{files:?}").contains("a:b=c"), "{files:?}");
    }

    #[test]
    fn what_is_no_setting_is_an_error_by_its_line() {
        for (text, line) in [("region = x\n", 1), ("[default]\n\nregion\n", 3)] {
            let error = files(text, "").expect_err("not of the grammar").to_string();
            assert!(error.contains(&format!("line {line}")), "{error}");
        }
    }
}
