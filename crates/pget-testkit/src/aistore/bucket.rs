//! Buckets: they identify an object (provider, namespace, name) and determine its target.

use percent_encoding::percent_decode_str;
use xxhash_rust::xxh64::xxh64;

/// AIStore's names of each provider: an accepted name, the canonical one, and the printed scheme.
const PROVIDERS: [(&str, &str, &str); 12] = [
    ("", "ais", "ais"),
    ("ais", "ais", "ais"),
    ("aws", "aws", "s3"),
    ("s3", "aws", "s3"),
    ("gcp", "gcp", "gs"),
    ("gs", "gcp", "gs"),
    ("azure", "azure", "az"),
    ("az", "azure", "az"),
    ("oci", "oci", "oc"),
    ("oc", "oci", "oc"),
    ("ht", "ht", "ht"),
    ("http", "ht", "ht"),
];

/// Seed of the digests that place an object (`get_digest` of the official Python client).
const DIGEST_SEED: u64 = 1_103_515_245;

/// A bucket: provider, namespace (`@uuid#name`, empty for the global one) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    pub(super) provider: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Bucket {
    /// Returns a bucket of the cluster's own: `ais://name`.
    pub fn ais(name: &str) -> Self {
        Self::new("ais", "", name)
    }

    /// Returns a bucket of any provider.
    ///
    /// `provider` is a value from a request's query: `ais`, `aws` or `s3`, `gcp` or `gs`, and so
    /// on.
    ///
    /// # Panics
    /// If the provider does not exist.
    pub fn new(provider: &str, namespace: &str, name: &str) -> Self {
        Self {
            provider: canonical(provider).expect("a provider of AIStore").into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Returns the bucket that a request's path segment and query name.
    ///
    /// The error is the name of a provider that does not exist.
    pub(super) fn of_request(name: &str, query: &str) -> Result<Self, String> {
        let provider = query_value(query, "provider").unwrap_or_default();
        let namespace = query_value(query, "namespace").unwrap_or_default();
        Ok(Self {
            provider: canonical(&provider).ok_or(provider)?.into(),
            namespace: if namespace == "@#" {
                String::new()
            } else {
                namespace
            },
            name: name.into(),
        })
    }

    pub(super) fn is_ais(&self) -> bool {
        self.provider == "ais"
    }

    /// Returns the bucket as in the server's messages: `ais://pget`, `s3://pget`,
    /// `ais://@uuid#name/pget`.
    pub(super) fn display(&self) -> String {
        let scheme = PROVIDERS
            .iter()
            .find(|(_, canonical, _)| *canonical == self.provider)
            .map_or("", |(_, _, scheme)| scheme);
        match self.namespace.as_str() {
            "" => format!("{scheme}://{}", self.name),
            namespace => format!("{scheme}://{namespace}/{}", self.name),
        }
    }

    /// Returns the index of the target that owns an object. `targets` are the targets' digests.
    ///
    /// The choice is by highest random weight. Every node of a real cluster, and every client that
    /// computes the owner, chooses the same way.
    pub(super) fn owner(&self, object: &str, targets: &[u64]) -> usize {
        let namespace = if self.namespace.is_empty() {
            "@#"
        } else {
            &self.namespace
        };
        let unique = format!("{}/{namespace}/{}/{object}", self.provider, self.name);
        let digest = digest(&unique);
        let weights = targets.iter().map(|target| weight(target ^ digest)).enumerate();
        weights
            .max_by_key(|(_, weight)| *weight)
            .map_or(0, |(index, _)| index)
    }
}

impl From<&str> for Bucket {
    /// Returns the `ais` bucket of this name.
    fn from(name: &str) -> Self {
        Self::ais(name)
    }
}

impl From<&Self> for Bucket {
    fn from(bucket: &Self) -> Self {
        bucket.clone()
    }
}

fn canonical(provider: &str) -> Option<&'static str> {
    PROVIDERS
        .iter()
        .find(|(name, _, _)| *name == provider)
        .map(|(_, canonical, _)| *canonical)
}

/// Returns the decoded value of a parameter in a raw query.
pub(super) fn query_value(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// Decodes the percent-escapes of a path. Returns `None` if the result is not UTF-8.
pub(super) fn decode_path(path: &str) -> Option<String> {
    percent_decode_str(path).decode_utf8().ok().map(Into::into)
}

pub(super) fn digest(name: &str) -> u64 {
    xxh64(name.as_bytes(), DIGEST_SEED)
}

/// Returns one output of the generator that orders the targets for an object.
///
/// It is `xoshiro256_hash` of the Python client.
fn weight(seed: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    const FIRST: u64 = 0xbf58_476d_1ce4_e5b9;
    const SECOND: u64 = 0x94d0_49bb_1331_11eb;
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(FIRST);
        let z = (z ^ (z >> 27)).wrapping_mul(SECOND);
        z ^ (z >> 31)
    };
    let z = mix(seed.wrapping_add(GOLDEN));
    let z = mix(z.wrapping_add(GOLDEN));
    z.wrapping_mul(5).rotate_left(7).wrapping_mul(9)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recorded cluster placed these objects on these targets.
    #[test]
    fn objects_live_where_a_real_cluster_puts_them() {
        let targets = [digest("target1-8080"), digest("target2-8080")];
        assert_eq!(targets[0], 13_502_142_457_124_933_285);
        for (object, owner) in [
            ("b256", 1),
            ("c256", 1),
            ("empty", 1),
            ("u10", 0),
            ("small", 0),
            ("dir/a b#c", 1),
        ] {
            assert_eq!(Bucket::ais("pget").owner(object, &targets), owner, "{object}");
        }
    }

    #[test]
    fn requests_name_buckets_by_three_things() {
        let of = |query| Bucket::of_request("b", query);
        assert_eq!(of(""), Ok(Bucket::ais("b")));
        assert_eq!(of("provider=s3"), Ok(Bucket::new("aws", "", "b")));
        assert_eq!(
            of("namespace=%40id%23ns&provider=ais"),
            Ok(Bucket::new("ais", "@id#ns", "b"))
        );
        assert_eq!(of("provider=zzz"), Err("zzz".into()));
    }
}
