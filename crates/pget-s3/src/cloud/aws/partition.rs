//! AWS's partitions: which domain a region's services are in.
//!
//! Source: `partitions.json` of botocore 1.44.8; a test compares the hosts.

/// One partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) name: &'static str,
    /// The domain of its services.
    pub(crate) domain: &'static str,
    /// The domain of services with IPv4 and IPv6 beside S3.
    pub(crate) dual: &'static str,
    /// How its regions begin.
    regions: &'static [&'static str],
}

const fn partition(
    name: &'static str,
    domain: &'static str,
    dual: &'static str,
    regions: &'static [&'static str],
) -> Partition {
    Partition {
        name,
        domain,
        dual,
        regions,
    }
}

/// The first is the one of regions that no other has.
static ALL: [Partition; 8] = [
    partition("aws", "amazonaws.com", "api.aws", &[]),
    partition(
        "aws-cn",
        "amazonaws.com.cn",
        "api.amazonwebservices.com.cn",
        &["cn-", "aws-cn-"],
    ),
    partition(
        "aws-us-gov",
        "amazonaws.com",
        "api.aws",
        &["us-gov-", "aws-us-gov-"],
    ),
    partition(
        "aws-iso",
        "c2s.ic.gov",
        "api.aws.ic.gov",
        &["us-iso-", "aws-iso-global"],
    ),
    partition(
        "aws-iso-b",
        "sc2s.sgov.gov",
        "api.aws.scloud",
        &["us-isob-", "aws-iso-b-"],
    ),
    partition(
        "aws-iso-e",
        "cloud.adc-e.uk",
        "api.cloud-aws.adc-e.uk",
        &["eu-isoe-", "aws-iso-e-"],
    ),
    partition(
        "aws-iso-f",
        "csp.hci.ic.gov",
        "api.aws.hci.ic.gov",
        &["us-isof-", "aws-iso-f-"],
    ),
    partition("aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu", &["eusc-"]),
];

impl Partition {
    /// Returns the partition that `region` is in.
    pub(crate) fn of(region: &str) -> &'static Self {
        ALL.iter()
            .find(|one| one.regions.iter().any(|begin| region.starts_with(begin)))
            .unwrap_or(&ALL[0])
    }

    /// Whether `host` is one of AWS's own.
    pub(crate) fn has(&self, host: &str) -> bool {
        [self.domain, self.dual]
            .iter()
            .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_in_their_partitions() {
        for (region, name) in [
            ("us-east-1", "aws"),
            ("aws-global", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-iso-west-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eu-isoe-west-1", "aws-iso-e"),
            ("us-isof-south-1", "aws-iso-f"),
            ("eusc-de-east-1", "aws-eusc"),
            ("nobody-knows-1", "aws"),
        ] {
            assert_eq!(Partition::of(region).name, name, "{region}");
        }
        let aws = Partition::of("us-east-1");
        assert!(aws.has("b.s3.us-west-2.amazonaws.com") && !aws.has("evilamazonaws.com"));
    }
}
