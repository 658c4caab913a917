//! ARNs that name an access point of S3.
//!
//! Pure. Invariant: every part is a label, so that it can stand in a host name.

/// An access point: of S3, of S3 Object Lambda, or of S3 on Outposts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) partition: &'a str,
    pub(crate) service: &'static str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) name: &'a str,
    pub(crate) outpost: Option<&'a str>,
}

impl<'a> Arn<'a> {
    /// Reads `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().unwrap_or_default();
        let (_, partition, service) = (next(), next(), next());
        let (region, account, resource) = (next(), next(), next());
        let service = match service {
            "s3" => "s3",
            "s3-object-lambda" => "s3-object-lambda",
            "s3-outposts" => "s3-outposts",
            _ => return Err("this ARN is not of an access point of S3".into()),
        };
        let words: Vec<_> = resource.split(['/', ':']).collect();
        let (name, outpost) = match (service, words.as_slice()) {
            ("s3-outposts", ["outpost", outpost, "accesspoint", name]) => (*name, Some(*outpost)),
            ("s3" | "s3-object-lambda", ["accesspoint", name]) => (*name, None),
            _ => return Err("this ARN does not name an access point".into()),
        };
        if region.is_empty() && service == "s3" {
            return Err("multi-region access points are not supported: they need SigV4A signatures".into());
        }
        if ![partition, region, account, name]
            .into_iter()
            .chain(outpost)
            .all(is_label)
        {
            return Err("a part of this ARN has other characters than a-z, A-Z, 0-9 and -".into());
        }
        Ok(Self {
            partition,
            service,
            region,
            account,
            name,
            outpost,
        })
    }

    /// Returns how long the ARN is at the beginning of `text`, which goes on with a slash and a
    /// key.
    pub(crate) fn length(text: &str) -> Option<usize> {
        let service = text.split(':').nth(2)?;
        let separators = if service == "s3-outposts" { 4 } else { 2 };
        // The resource begins after the fifth colon and has slashes or colons in it.
        let (resource, _) = text.match_indices(':').nth(4)?;
        let rest = &text[resource + 1..];
        let end = rest
            .match_indices(['/', ':'])
            .nth(separators - 1)
            .map(|(at, _)| at)?;
        Some(resource + 1 + end)
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_ends_where_the_key_begins() {
        for (text, arn) in [
            (
                "arn:aws:s3:us-west-2:123456789012:accesspoint/my-ap/a/b",
                "arn:aws:s3:us-west-2:123456789012:accesspoint/my-ap",
            ),
            (
                "arn:aws:s3:us-west-2:123456789012:accesspoint:my-ap/k",
                "arn:aws:s3:us-west-2:123456789012:accesspoint:my-ap",
            ),
            (
                "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/ap/k",
                "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/ap",
            ),
        ] {
            assert_eq!(Arn::length(text), Some(arn.len()), "{text}");
            assert!(Arn::parse(arn).is_ok(), "{arn}");
        }
        for text in [
            "arn:aws:s3:us-west-2:123456789012:accesspoint/my-ap",
            "arn:aws:s3",
            "bucket/k",
        ] {
            assert_eq!(Arn::length(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_access_point_is_refused() {
        for text in [
            "arn:aws:s3:::bucket",
            "arn:aws:s3::123456789012:accesspoint/mrap.mrap",
            "arn:aws:ec2:us-east-1:1:accesspoint/x",
            "arn:aws:s3:us-east-1:1:accesspoint/a.b",
            "arn:aws:s3:evil.example/:1:accesspoint/a",
            "arn:aws:s3:us-east-1:1:accesspoint/a/b",
        ] {
            assert!(Arn::parse(text).is_err(), "{text}");
        }
    }
}
