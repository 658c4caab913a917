//! Where a bucket of S3 is: host, path, and what a request there is signed for.
//!
//! Source: the endpoint rules of S3, STS and SSO in botocore 1.44.8; a test compares them for a
//! table of settings. Two answers are this program's own: `us-east-1` is asked by its own name
//! rather than the global one, and multi-region access points are refused, as they need another
//! signature.
//!
//! Pure. Invariant: nothing of a bucket's name becomes part of a host name unless it is a label.

use percent_encoding::utf8_percent_encode;
use url::Url;

use super::partition::Partition;
use crate::{address::VALUE, arn::Arn};

/// How the bucket is named in a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// In the host if it can stand there and no endpoint is set; else in the path.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In the host, before the endpoint's own name if one is set.
    Virtual,
    /// The endpoint's host is the bucket's already.
    Hosted,
}

/// What decides where a bucket is.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) region: &'a str,
    pub(crate) endpoint: Option<&'a Url>,
    pub(crate) style: Style,
    pub(crate) fips: bool,
    pub(crate) dual: bool,
    pub(crate) accelerate: bool,
    /// The region in an ARN counts, not the one that is set.
    pub(crate) arn_region: bool,
    /// `us-east-1` is asked by the global name.
    pub(crate) global: bool,
}

/// Where a bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// To which a slash and the key are added.
    pub(crate) base: String,
    pub(crate) service: &'static str,
    pub(crate) region: String,
    /// A directory bucket, for which requests are signed with a session's keys.
    pub(crate) express: bool,
}

/// Applies the rules.
///
/// # Errors
/// The text names the settings that do not go together.
pub(crate) fn resolve(rules: &Rules<'_>) -> Result<Place, String> {
    if rules.bucket.starts_with("arn:") {
        return access_point(rules);
    }
    if is_express(rules.bucket) {
        return express(rules);
    }
    if rules.accelerate {
        return accelerated(rules);
    }
    let region = if rules.region == "aws-global" {
        "us-east-1"
    } else {
        rules.region
    };
    let place = |base| Place {
        base,
        service: "s3",
        region: region.to_owned(),
        express: false,
    };
    if let Some(endpoint) = rules.endpoint {
        return Ok(place(under(endpoint, rules)));
    }
    let host = host("s3", "s3-fips", rules, region)?;
    let in_host = match rules.style {
        Style::Auto => is_label(rules.bucket),
        Style::Virtual if !is_label(rules.bucket) => {
            return Err("this bucket cannot stand in a host name: it is not of the style virtual".into());
        }
        Style::Virtual => true,
        Style::Path => false,
        Style::Hosted => return Err("virtual_hosted_style_request needs an endpoint".into()),
    };
    Ok(place(if in_host {
        format!("https://{}.{host}", rules.bucket)
    } else {
        format!("https://{host}/{}", encoded(rules.bucket))
    }))
}

/// Returns S3's own host in a region.
fn host(plain: &str, fips: &str, rules: &Rules<'_>, region: &str) -> Result<String, String> {
    if !is_region(region) {
        return Err(format!("the region {region:?} cannot stand in a host name"));
    }
    let partition = Partition::of(region);
    if rules.fips && partition.name == "aws-cn" {
        return Err("use_fips_endpoint: the partition aws-cn has no FIPS endpoints".into());
    }
    let name = if rules.fips { fips } else { plain };
    let domain = partition.domain;
    if rules.dual {
        return Ok(format!("{name}.dualstack.{region}.{domain}"));
    }
    let global = rules.region == "aws-global" || (rules.global && region == "us-east-1");
    if global && !rules.fips && plain == "s3" {
        return Ok(format!("s3.{domain}"));
    }
    Ok(format!("{name}.{region}.{domain}"))
}

/// Returns the bucket's URL at an endpoint that is set.
fn under(endpoint: &Url, rules: &Rules<'_>) -> String {
    let base = endpoint.as_str().trim_end_matches('/');
    match rules.style {
        Style::Hosted => base.to_owned(),
        Style::Virtual if is_label(rules.bucket) => with_label(endpoint, rules.bucket),
        _ => format!("{base}/{}", encoded(rules.bucket)),
    }
}

/// Returns the endpoint's URL with a label before its host.
fn with_label(endpoint: &Url, label: &str) -> String {
    let base = endpoint.as_str().trim_end_matches('/');
    match base.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{label}.{rest}"),
        None => base.to_owned(),
    }
}

fn accelerated(rules: &Rules<'_>) -> Result<Place, String> {
    if rules.fips {
        return Err("use_accelerate_endpoint and use_fips_endpoint do not go together".into());
    }
    if rules.endpoint.is_some() {
        return Err("use_accelerate_endpoint and an endpoint do not go together".into());
    }
    if Partition::of(rules.region).name != "aws" {
        return Err("use_accelerate_endpoint: S3 Accelerate is in the partition aws only".into());
    }
    if !is_label(rules.bucket) {
        return Err("use_accelerate_endpoint: this bucket cannot stand in a host name".into());
    }
    let dual = if rules.dual { ".dualstack" } else { "" };
    Ok(Place {
        base: format!("https://{}.s3-accelerate{dual}.amazonaws.com", rules.bucket),
        service: "s3",
        region: if rules.region == "aws-global" {
            "us-east-1"
        } else {
            rules.region
        }
        .to_owned(),
        express: false,
    })
}

fn express(rules: &Rules<'_>) -> Result<Place, String> {
    if rules.accelerate {
        return Err("use_accelerate_endpoint: directory buckets have no S3 Accelerate".into());
    }
    let place = |base| Place {
        base,
        service: "s3express",
        region: rules.region.to_owned(),
        express: true,
    };
    if let Some(endpoint) = rules.endpoint {
        return Ok(place(under(endpoint, rules)));
    }
    let mut parts = rules.bucket.rsplit("--");
    let zone = parts
        .nth(1)
        .filter(|zone| parts.next().is_some() && is_region(zone));
    let (Some(zone), true) = (zone, is_label(rules.bucket)) else {
        return Err("a directory bucket is named NAME--ZONE--x-s3".into());
    };
    let (plain, fips) = (format!("s3express-{zone}"), format!("s3express-fips-{zone}"));
    let host = host(&plain, &fips, rules, rules.region)?;
    Ok(place(format!("https://{}.{host}", rules.bucket)))
}

fn access_point(rules: &Rules<'_>) -> Result<Place, String> {
    let arn = Arn::parse(rules.bucket)?;
    if rules.accelerate {
        return Err("use_accelerate_endpoint: access points have no S3 Accelerate".into());
    }
    if rules.style == Style::Path {
        return Err("addressing_style: an access point cannot stand in the path".into());
    }
    let region = if rules.arn_region || rules.region == "aws-global" {
        arn.region
    } else {
        rules.region
    };
    if region != arn.region {
        return Err(format!(
            "the access point is in {}, the region set is {region}, and s3_use_arn_region is false",
            arn.region
        ));
    }
    let (here, there) = (Partition::of(rules.region), Partition::of(arn.region));
    if here != there || arn.partition != there.name {
        return Err(format!(
            "the region set is in the partition {}, the access point in {}",
            here.name, arn.partition
        ));
    }
    let label = match arn.outpost {
        Some(outpost) => format!("{}-{}.{outpost}", arn.name, arn.account),
        None => format!("{}-{}", arn.name, arn.account),
    };
    let base = match rules.endpoint {
        Some(endpoint) => with_label(endpoint, &label),
        None if arn.service == "s3" => {
            let host = host("s3-accesspoint", "s3-accesspoint-fips", rules, region)?;
            format!("https://{label}.{host}")
        }
        None if rules.dual => return Err(format!("use_dualstack_endpoint: {} has none", arn.service)),
        None if rules.fips && arn.outpost.is_some() => {
            return Err("use_fips_endpoint: outposts have none".into());
        }
        None => {
            let host = host(arn.service, &format!("{}-fips", arn.service), rules, region)?;
            format!("https://{label}.{host}")
        }
    };
    Ok(Place {
        base,
        service: arn.service,
        region: region.to_owned(),
        express: false,
    })
}

/// Returns the host of STS and what a request there is signed for.
pub(crate) fn sts(region: Option<&str>, fips: bool, dual: bool) -> (String, String) {
    let region = region.unwrap_or("aws-global");
    if region == "aws-global" {
        return ("sts.amazonaws.com".into(), "us-east-1".into());
    }
    let own_fips = if region.starts_with("us-gov-") {
        "sts"
    } else {
        "sts-fips"
    };
    (service("sts", own_fips, region, fips, dual), region.to_owned())
}

/// Returns the host of a regional service.
pub(crate) fn service(plain: &str, fips_name: &str, region: &str, fips: bool, dual: bool) -> String {
    let partition = Partition::of(region);
    // With both, the name is the one for FIPS everywhere.
    let name = match (fips, dual) {
        (true, true) if plain == "sts" => "sts-fips",
        (true, _) => fips_name,
        (false, _) => plain,
    };
    let domain = if dual { partition.dual } else { partition.domain };
    format!("{name}.{region}.{domain}")
}

/// Whether the name is that of a directory bucket, or of an access point to one.
pub(crate) fn is_express(bucket: &str) -> bool {
    bucket.ends_with("--x-s3") || bucket.ends_with("--xa-s3")
}

/// Whether the bucket can stand in a host name that a certificate's wildcard covers.
pub(crate) fn is_label(bucket: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|byte| plain(byte) || byte == b'-')
        && bucket.bytes().next().is_some_and(plain)
        && bucket.bytes().last().is_some_and(plain)
}

/// Whether the text can be a label of a host name.
pub(crate) fn is_region(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
}

fn encoded(bucket: &str) -> String {
    utf8_percent_encode(bucket, &VALUE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(bucket: &'static str, region: &'static str) -> Rules<'static> {
        Rules {
            bucket,
            region,
            endpoint: None,
            style: Style::Auto,
            fips: false,
            dual: false,
            accelerate: false,
            arn_region: true,
            global: false,
        }
    }

    fn base(rules: &Rules<'_>) -> String {
        resolve(rules).map_or_else(|why| format!("error: {why}"), |place| place.base)
    }

    #[test]
    fn a_bucket_stands_in_the_host_if_it_can() {
        assert_eq!(
            base(&rules("bkt", "eu-west-1")),
            "https://bkt.s3.eu-west-1.amazonaws.com"
        );
        assert_eq!(
            base(&rules("b.c", "eu-west-1")),
            "https://s3.eu-west-1.amazonaws.com/b.c"
        );
        assert_eq!(base(&rules("bkt", "aws-global")), "https://bkt.s3.amazonaws.com");
        let path = Rules {
            style: Style::Path,
            ..rules("bkt", "cn-north-1")
        };
        assert_eq!(base(&path), "https://s3.cn-north-1.amazonaws.com.cn/bkt");
    }

    #[test]
    fn an_endpoint_goes_before_all_and_keeps_its_path() {
        let endpoint = Url::parse("http://h:9000/s3/").expect("a URL");
        let mut rules = Rules {
            endpoint: Some(&endpoint),
            ..rules("tenant:bkt", "any_where")
        };
        assert_eq!(base(&rules), "http://h:9000/s3/tenant%3Abkt");
        rules.bucket = "bkt";
        rules.style = Style::Virtual;
        assert_eq!(base(&rules), "http://bkt.h:9000/s3");
        rules.style = Style::Hosted;
        assert_eq!(base(&rules), "http://h:9000/s3");
        rules.bucket = "arn:aws:s3:us-east-1:123456789012:accesspoint/ap";
        rules.region = "us-east-1";
        assert_eq!(base(&rules), "http://ap-123456789012.h:9000/s3");
    }

    #[test]
    fn no_name_can_choose_the_host() {
        for (bucket, region) in [
            ("bkt", "evil.example/"),
            ("bkt", ""),
            ("bkt", "a b"),
            ("a--evil.example/--x-s3", "us-east-1"),
        ] {
            assert!(
                base(&rules(bucket, region)).starts_with("error"),
                "{bucket} {region}"
            );
        }
        assert_eq!(
            base(&rules("a/b", "us-east-1")),
            "https://s3.us-east-1.amazonaws.com/a%2Fb"
        );
    }
}
