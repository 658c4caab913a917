//! The compared settings, and the home directory that belongs to each.

/// A case of the table.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) variables: Vec<(String, String)>,
    pub(super) files: Vec<(&'static str, String)>,
    /// The reason why the official library's result differs.
    pub(super) differs: Option<&'static str>,
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "SK")];
const OFF: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");
pub(super) const FAR: &str = "2099-01-01T00:00:00Z";

fn case(name: &str, address: &str, variables: &[(&str, &str)]) -> Case {
    Case {
        name: name.into(),
        address: address.into(),
        variables: variables
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        files: Vec::new(),
        differs: None,
    }
}

impl Case {
    fn file(mut self, name: &'static str, text: &str) -> Self {
        self.files.push((name, text.into()));
        self
    }

    fn but(mut self, why: &'static str) -> Self {
        self.differs = Some(why);
        self
    }
}

/// Returns the whole table. `key` is the key of a service account.
pub(super) fn table(key: &str) -> Vec<Case> {
    [regions(), places(), chains(), google(key), azure()].concat()
}

/// Returns a case with fixed keys.
fn keyed(name: &str, address: &str, more: &[(&str, &str)]) -> Case {
    case(name, address, &[&KEYS[..], &[OFF], more].concat())
}

/// Returns the cases of each partition, with FIPS and IPv6.
fn regions() -> Vec<Case> {
    let mut cases = Vec::new();
    let regions = [
        "us-east-1",
        "eu-west-1",
        "cn-north-1",
        "us-gov-west-1",
        "us-iso-east-1",
        "us-isob-east-1",
        "eu-isoe-west-1",
        "us-isof-south-1",
        "eusc-de-east-1",
        "xx-nowhere-9",
    ];
    for region in regions {
        for (fips, dual) in [
            ("false", "false"),
            ("true", "false"),
            ("false", "true"),
            ("true", "true"),
        ] {
            let mut case = keyed(
                &format!("{region} fips={fips} dual={dual}"),
                "s3://bucket/k",
                &[
                    ("AWS_REGION", region),
                    ("AWS_USE_FIPS_ENDPOINT", fips),
                    ("AWS_USE_DUALSTACK_ENDPOINT", dual),
                    ("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "regional"),
                ],
            );
            if dual == "true" && ["eu-isoe-west-1", "us-isof-south-1"].contains(&region) {
                case = case.but("botocore's older list has no hosts for IPv6 there, its rules and this have");
            }
            cases.push(case);
        }
    }
    cases
}

/// Returns the cases of buckets, styles, endpoints and access points.
fn places() -> Vec<Case> {
    let region = ("AWS_REGION", "eu-west-1");
    let arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/my-ap";
    let fips = ("AWS_USE_FIPS_ENDPOINT", "true");
    let local = ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/s3");
    let config = |text: &str| format!("[default]\nregion = eu-west-1\n{text}");
    vec![
        keyed("no region", "s3://bucket/k", &[])
            .but("without a region, us-east-1 is asked by its own name, as AWS_REGION=us-east-1 would"),
        keyed("us-east-1 by default", "s3://bucket/k", &[("AWS_REGION", "us-east-1")])
            .but("its own name is used rather than the global one, as every tool since 2019 does"),
        keyed("us-east-1, legacy", "s3://bucket/k", &[("AWS_REGION", "us-east-1"), ("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "legacy")]),
        keyed("aws-global", "s3://bucket/k", &[("AWS_REGION", "aws-global")]),
        keyed("a bucket with dots", "s3://a.bucket/k", &[region]),
        keyed("an old bucket", "s3://A_Bucket/k", &[region]),
        keyed("a key with odd characters", "s3://bucket/a%20b+%2B/ä//x~*'()", &[region]),
        keyed("a version", "s3://bucket/k?versionId=a%2Fb%3D%3D", &[region]),
        keyed("default region", "s3://bucket/k", &[("AWS_DEFAULT_REGION", "ap-south-1")]),
        keyed("both regions", "s3://bucket/k", &[("AWS_DEFAULT_REGION", "ap-south-1"), region]),
        keyed("pseudo region fips-", "s3://bucket/k", &[("AWS_REGION", "fips-us-gov-west-1")]),
        keyed("pseudo region -fips", "s3://bucket/k", &[("AWS_REGION", "us-gov-west-1-fips")]),
        keyed("endpoint with a path", "s3://bucket/a/b", &[region, local]),
        keyed("endpoint of S3", "s3://bucket/k", &[region, local, ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9001")]),
        keyed("endpoint and FIPS", "s3://bucket/k", &[region, local, fips]),
        keyed("endpoint ignored", "s3://bucket/k", &[region, local, ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]),
        keyed("access point", &format!("s3://{arn}/k"), &[region]),
        keyed("access point, FIPS", &format!("s3://{arn}/k"), &[region, fips]),
        keyed("access point, IPv6", &format!("s3://{arn}/k"), &[region, ("AWS_USE_DUALSTACK_ENDPOINT", "true")]),
        keyed("access point, own region only", &format!("s3://{arn}/k"), &[region, ("AWS_S3_USE_ARN_REGION", "false")]),
        keyed("access point, another partition", &format!("s3://{arn}/k"), &[("AWS_REGION", "cn-north-1")]),
        keyed("access point in China", "s3://arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/ap/k", &[("AWS_REGION", "cn-north-1")]),
        keyed("access point at an endpoint", &format!("s3://{arn}/k"), &[region, ("AWS_ENDPOINT_URL", "http://s3.local:9000")]),
        keyed("access point alias", "s3://my-ap-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias/k", &[region]),
        keyed("object lambda", "s3://arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/ap/k", &[region]),
        keyed("object lambda, FIPS", "s3://arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/ap/k", &[region, fips]),
        keyed("object lambda, IPv6", "s3://arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/ap/k", &[region, ("AWS_USE_DUALSTACK_ENDPOINT", "true")]),
        keyed("outpost", "s3://arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01234567890123456/accesspoint/ap/k", &[region]),
        keyed("multi-region access point", "s3://arn:aws:s3::123456789012:accesspoint/m.mrap/k", &[region]),
        keyed("directory bucket", "s3://b--use1-az4--x-s3/k", &[("AWS_REGION", "us-east-1")]),
        keyed("directory bucket, FIPS", "s3://b--use1-az4--x-s3/k", &[("AWS_REGION", "us-east-1"), fips]),
        keyed("directory bucket, IPv6", "s3://b--use1-az4--x-s3/k", &[("AWS_REGION", "us-east-1"), ("AWS_USE_DUALSTACK_ENDPOINT", "true")]),
        keyed("directory bucket, without sessions", "s3://b--use1-az4--x-s3/k", &[("AWS_REGION", "us-east-1"), ("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "true")]),
        keyed("style path", "s3://bucket/k", &[]).file(".aws/config", &config("s3 =\n  addressing_style = path\n")),
        keyed("style virtual", "s3://bucket/k", &[]).file(".aws/config", &config("s3 =\n  addressing_style = virtual\n")),
        keyed("style virtual at an endpoint", "s3://bucket/k", &[("AWS_ENDPOINT_URL", "http://s3.local:9000")])
            .file(".aws/config", &config("s3 =\n  addressing_style = virtual\n")),
        keyed("accelerate", "s3://bucket/k", &[]).file(".aws/config", &config("s3 =\n  use_accelerate_endpoint = true\n")),
        keyed("accelerate, IPv6", "s3://bucket/k", &[])
            .file(".aws/config", &config("s3 =\n  use_accelerate_endpoint = true\n  use_dualstack_endpoint = true\n")),
        keyed("endpoint of the profile", "s3://bucket/k", &[]).file(".aws/config", &config("endpoint_url = http://127.0.0.1:9002\n")),
        keyed("endpoint of the profile's services", "s3://bucket/k", &[]).file(
            ".aws/config",
            &config("endpoint_url = http://127.0.0.1:9002\nservices = x\n[services x]\ns3 =\n  endpoint_url = http://127.0.0.1:9003\n"),
        ),
        keyed("FIPS of the profile", "s3://bucket/k", &[]).file(".aws/config", &config("use_fips_endpoint = true\n")),
        keyed("requester pays", "s3://bucket/k", &[region, ("AWS_REQUEST_PAYER", "requester")]),
        keyed(
            "customer's key",
            "s3://bucket/k",
            &[region, ("AWS_SERVER_SIDE_ENCRYPTION", "sse-c"), ("AWS_SSE_CUSTOMER_KEY_BASE64", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")],
        ),
        case("unsigned", "s3://bucket/k", &[region, ("AWS_SKIP_SIGNATURE", "true")]),
        keyed("session token", "s3://bucket/k", &[region, ("AWS_SESSION_TOKEN", "a/token+with=")]),
        keyed("both tokens", "s3://bucket/k", &[region, ("AWS_SESSION_TOKEN", "one"), ("AWS_SECURITY_TOKEN", "two")]),
    ]
}

const PROFILES: &str = "[default]\nregion = eu-west-3\n[profile other]\nregion = eu-west-2\n[profile role]\nregion = us-west-2\n\
    role_arn = arn:aws:iam::1:role/r\nsource_profile = base\n[profile base]\naws_access_key_id = AB\naws_secret_access_key = SB\n\
    [profile chain]\nrole_arn = arn:aws:iam::1:role/c\nsource_profile = role\nregion = us-west-1\n\
    [profile self]\nrole_arn = arn:aws:iam::1:role/s\nregion = us-west-1\nsource_profile = self\naws_access_key_id = AB\naws_secret_access_key = SB\n\
    [profile circle]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = circle\n\
    [profile from-environment]\nrole_arn = arn:aws:iam::1:role/e\ncredential_source = Environment\nregion = us-west-1\n\
    [profile from-container]\nrole_arn = arn:aws:iam::1:role/e\ncredential_source = EcsContainer\nregion = us-west-1\n\
    [profile from-instance]\nrole_arn = arn:aws:iam::1:role/e\ncredential_source = Ec2InstanceMetadata\nregion = us-west-1\n\
    [profile nothing]\nrole_arn = arn:aws:iam::1:role/e\n\
    [profile both]\nrole_arn = arn:aws:iam::1:role/e\nsource_profile = base\ncredential_source = Environment\n\
    [profile pod]\nrole_arn = arn:aws:iam::1:role/w\nweb_identity_token_file = {HOME}/token\nregion = us-west-1\n\
    [profile half]\naws_access_key_id = AB\n\
    [profile login]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = reader\nregion = eu-west-1\n\
    [profile login-over-role]\nregion = us-west-1\nrole_arn = arn:aws:iam::1:role/l\nsource_profile = login\n\
    [profile legacy]\nregion = eu-west-1\nsso_start_url = https://start\nsso_region = eu-west-1\nsso_account_id = 123456789012\nsso_role_name = reader\n\
    [profile no-session]\nsso_session = nobody\nsso_account_id = 123456789012\nsso_role_name = reader\n\
    [profile program]\ncredential_process = /bin/sh {HOME}/program\nregion = eu-north-1\n\
    [profile program-and-keys]\nregion = us-west-1\ncredential_process = /bin/sh {HOME}/program\naws_access_key_id = AB\naws_secret_access_key = SB\n\
    [profile failing]\ncredential_process = /bin/false\n\
    [sso-session s]\nsso_start_url = https://start\nsso_region = eu-west-1\n";

const SHARED: &str = "[default]\naws_access_key_id = AD\naws_secret_access_key = SD\n[other]\naws_access_key_id=AO\n\
    aws_secret_access_key=SO/with+odd==\naws_session_token = TO\n[shared-only]\naws_access_key_id = AH\naws_secret_access_key = SH\n\
    region = sa-east-1\n";

/// Returns the cases of profiles, roles, log-ins and metadata services.
fn chains() -> Vec<Case> {
    let program =
        r#"echo '{"Version": 1, "AccessKeyId": "AP", "SecretAccessKey": "SP", "SessionToken": "TP"}'"#;
    let token = format!(
        r#"{{"accessToken":"sso-token","expiresAt":"{FAR}","startUrl":"https://start","region":"eu-west-1"}}"#
    );
    let with = |name: &str, variables: &[(&str, &str)]| {
        let services = [
            ("AWS_ENDPOINT_URL_STS", "{HERE}"),
            ("AWS_ENDPOINT_URL_SSO", "{HERE}"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "{HERE}"),
        ];
        case(name, "s3://bucket/k", &[&services[..], variables].concat())
            .file(".aws/config", PROFILES)
            .file(".aws/credentials", SHARED)
            .file("token", "web-token")
            .file("program", program)
            // The file name is the SHA-1 of "s" or of "https://start".
            .file(
                ".aws/sso/cache/a0f1490a20d0211c997b44bc357e1972deab8ae3.json",
                &token,
            )
            .file(
                ".aws/sso/cache/6ad0e7e61d1f47e491ea32c2031add41ef92e07d.json",
                &token,
            )
    };
    let profile = |name: &'static str| with(&format!("profile {name}"), &[("AWS_PROFILE", name), OFF]);
    let bare = |name: &str, variables: &[(&str, &str)]| {
        let services = [("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL_STS", "{HERE}")];
        case(name, "s3://bucket/k", &[&services[..], variables].concat()).file("token", "web-token")
    };
    let instance = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "{HERE}");
    let mut cases: Vec<_> = [
        "default",
        "other",
        "shared-only",
        "role",
        "chain",
        "self",
        "circle",
        "from-container",
        "nothing",
        "both",
        "pod",
        "half",
        "legacy",
        "login",
        "login-over-role",
        "no-session",
        "program",
        "program-and-keys",
        "failing",
        "nobody",
    ]
    .map(profile)
    .into();
    cases.extend([
        with(
            "profile default, keys of the environment",
            &[KEYS[0], KEYS[1], OFF],
        ),
        with(
            "default profile's variable",
            &[("AWS_DEFAULT_PROFILE", "other"), ("AWS_PROFILE", "role"), OFF],
        ),
        with(
            "profile from-environment",
            &[("AWS_PROFILE", "from-environment"), KEYS[0], KEYS[1], OFF],
        ),
        with("profile from-instance", &[("AWS_PROFILE", "from-instance")]),
        with("region of the environment", &[("AWS_REGION", "us-west-2"), OFF]),
        bare(
            "files elsewhere",
            &[
                ("AWS_CONFIG_FILE", "{HOME}/c"),
                ("AWS_SHARED_CREDENTIALS_FILE", "~/d"),
                OFF,
            ],
        )
        .file("c", "[default]\nregion = eu-west-3\n")
        .file("d", SHARED),
        bare(
            "web identity",
            &[
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "{HOME}/token"),
                ("AWS_ROLE_ARN", "arn:aws:iam::1:role/w"),
                OFF,
            ],
        ),
        bare(
            "container",
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "{HERE}/task"), OFF],
        ),
        bare(
            "container, token",
            &[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "{HERE}/task"),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "t"),
                OFF,
            ],
        ),
        bare(
            "container elsewhere",
            &[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/task"),
                OFF,
            ],
        ),
        bare(
            "container refuses",
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "{HERE}/refused"), OFF],
        ),
        bare("instance", &[instance]),
        bare("nothing", &[OFF]).but("without credentials anywhere, one unsigned request is tried"),
    ]);
    cases
}

const USER: &str = r#"{"type":"authorized_user","client_id":"id","client_secret":"cs","refresh_token":"rt","token_uri":"{HERE}/token","quota_project_id":"payer"}"#;

/// Returns the cases of Google's documents and of the metadata server.
fn google(key: &str) -> Vec<Case> {
    let off = ("NO_GCE_CHECK", "true");
    let stand_in = ("STAND_IN", "{HERE}");
    let document = |name: &str, text: &str, more: &[(&str, &str)]| {
        let named = [
            ("GOOGLE_APPLICATION_CREDENTIALS", "{HOME}/adc.json"),
            off,
            stand_in,
        ];
        case(
            &format!("google {name}"),
            "gs://bucket/k",
            &[&named[..], more].concat(),
        )
        .file("adc.json", text)
        .file("subject", "subject-token")
    };
    let account = format!(
        r#"{{"type":"service_account","client_email":"a@p.iam","private_key_id":"i","private_key":"{key}","token_uri":"{{HERE}}/token","project_id":"p"}}"#
    );
    let external = |more: &str| {
        format!(
            r#"{{"type":"external_account","audience":"//iam/x","subject_token_type":"urn:ietf:params:oauth:token-type:jwt","token_url":"{{HERE}}/sts","credential_source":{{"file":"{{HOME}}/subject"}}{more}}}"#
        )
    };
    let by_url = external("").replace(
        r#"{"file":"{HOME}/subject"}"#,
        r#"{"url":"{HERE}/subject","format":{"type":"json","subject_token_field_name":"v"}}"#,
    );
    let other = r#"{"type":"impersonated_service_account","delegates":[],"service_account_impersonation_url":"{HERE}/v1/projects/-/serviceAccounts/o@p.iam:generateAccessToken","source_credentials":"#;
    let on = r#","service_account_impersonation_url":"{HERE}/v1/projects/-/serviceAccounts/o@p.iam:generateAccessToken""#;
    let person = r#"{"type":"external_account_authorized_user","audience":"//iam/x","client_id":"id","client_secret":"cs","refresh_token":"rt","token_url":"{HERE}/sts-oauth","token_info_url":"{HERE}/i"}"#;
    vec![
        case("google log-in by gcloud", "gs://bucket/k", &[off, stand_in])
            .file(".config/gcloud/application_default_credentials.json", USER),
        case(
            "google log-in elsewhere",
            "gs://bucket/k",
            &[off, stand_in, ("CLOUDSDK_CONFIG", "{HOME}/sdk")],
        )
        .file("sdk/application_default_credentials.json", USER),
        document("authorized user", USER, &[]),
        document(
            "quota project of the environment",
            USER,
            &[("GOOGLE_CLOUD_QUOTA_PROJECT", "other-payer")],
        ),
        document("service account", &account, &[]),
        document("external account by file", &external(""), &[]),
        document("external account by URL", &by_url, &[]),
        document("external account that impersonates", &external(on), &[]),
        document("external person", person, &[]),
        document("impersonation by a person", &format!("{other}{USER}}}"), &[]),
        document("impersonation by an account", &format!("{other}{account}}}"), &[]),
        document("unknown kind", r#"{"type":"nobody_knows"}"#, &[]),
        case(
            "google no file",
            "gs://bucket/k",
            &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json"), off],
        ),
        case(
            "google metadata server",
            "gs://bucket/k",
            &[
                ("GCE_METADATA_HOST", "{HOST}"),
                ("GCE_METADATA_IP", "{HOST}"),
                ("GCE_METADATA_ROOT", "{HOST}"),
            ],
        ),
    ]
}

/// Returns the cases of Azure's keys and identities.
fn azure() -> Vec<Case> {
    let account = ("AZURE_STORAGE_ACCOUNT", "account");
    let key = "bm90IGEgc2VjcmV0";
    let string = format!(
        "DefaultEndpointsProtocol=https;AccountName=account;AccountKey={key};EndpointSuffix=core.windows.net"
    );
    let entra = [
        account,
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_AUTHORITY_HOST", "{HERE}"),
        ("STAND_IN", "{HERE}"),
    ];
    let name = "az://container/a%20b/k";
    vec![
        case("azure key", name, &[account, ("AZURE_STORAGE_KEY", key)]),
        case(
            "azure connection string",
            name,
            &[("AZURE_STORAGE_CONNECTION_STRING", &string)],
        ),
        case(
            "azure connection string of China",
            name,
            &[(
                "AZURE_STORAGE_CONNECTION_STRING",
                &string.replace("core.windows.net", "core.chinacloudapi.cn"),
            )],
        ),
        case(
            "azure emulator",
            name,
            &[("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")],
        ),
        case(
            "azure endpoint of a connection string",
            name,
            &[(
                "AZURE_STORAGE_CONNECTION_STRING",
                "BlobEndpoint=http://127.0.0.1:9/account;SharedAccessSignature=sv=1&sig=a%2Bb%3D;",
            )],
        ),
        case(
            "azure shared access signature",
            name,
            &[
                account,
                ("AZURE_STORAGE_SAS_TOKEN", "sv=2021-08-06&sp=r&sig=a%2Bb%3D"),
            ],
        ),
        case(
            "azure client secret",
            name,
            &[&entra[..], &[("AZURE_CLIENT_SECRET", "cs")]].concat(),
        ),
        case(
            "azure workload identity",
            name,
            &[&entra[..], &[("AZURE_FEDERATED_TOKEN_FILE", "{HOME}/token")]].concat(),
        )
        .file("token", "federated"),
        case(
            "azure app service",
            name,
            &[
                account,
                ("IDENTITY_ENDPOINT", "{HERE}/msi"),
                ("IDENTITY_HEADER", "h"),
            ],
        ),
        case(
            "azure virtual machine",
            name,
            &[account, ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "{HERE}")],
        ),
        case(
            "azure virtual machine, client",
            name,
            &[
                account,
                ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "{HERE}"),
                ("AZURE_CLIENT_ID", "c"),
            ],
        ),
    ]
}
