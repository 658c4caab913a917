"""Compares requests with those of the clouds' own libraries, in the same environment and home.

Reads cases in JSON from the file that is named, and prints a JSON object: for each case's name, a
list of what differs. A case says the environment and address, and what this project made of them:
either `url` and `headers` of a request, or `error`.
"""

import json
import os
import sys
import urllib.parse

import azure.core.pipeline
import azure.core.pipeline.transport
import azure.identity
import azure.storage.blob
import azure.storage.blob._shared.authentication
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.session
import botocore.tokens
import google.auth
import google.auth.transport.requests

SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
SESSION = (
    "<CreateSessionResult><Credentials><SessionToken>session-token</SessionToken>"
    "<SecretAccessKey>session-secret</SecretAccessKey><AccessKeyId>SESSION</AccessKeyId>"
    "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>"
)


# Reads the models of the services once for all sessions.
LOADER = botocore.loaders.create_loader()


class Answer:
    """A body as urllib3 has it."""

    def __init__(self, body):
        self.body = body

    def stream(self, **_):
        yield self.body

    def read(self, *_, **__):
        body, self.body = self.body, b""
        return body


def parts(url):
    """Host, path and query, without differences that mean nothing."""
    split = urllib.parse.urlsplit(url)
    query = sorted(urllib.parse.parse_qsl(split.query, keep_blank_values=True))
    query = [(name, value) for name, value in query if name != "x-id"]
    return (split.scheme, split.netloc, urllib.parse.unquote(split.path), query)


def scope(headers):
    """Key, region and service that a signature is for."""
    value = headers.get("authorization")
    if value is None:
        return None
    value = value.decode() if isinstance(value, bytes) else value
    key, _, region, service, _ = value.split("Credential=")[1].split(",")[0].split("/")
    return (key, region, service)


def lower(headers):
    return {
        name.lower(): value.decode() if isinstance(value, bytes) else value
        for name, value in dict(headers).items()
    }


def aws_request(address):
    """What botocore would send for GetObject."""
    bucket, _, key = address.partition("/")
    if bucket.startswith("arn:"):
        words = address.split("/")
        bucket, key = "/".join(words[:-1]), words[-1]
    sent = []

    def instead(request, **_):
        if request.url.endswith("?session") or "session" in urllib.parse.urlsplit(request.url).query:
            return botocore.awsrequest.AWSResponse(request.url, 200, {}, Answer(SESSION.encode()))
        sent.append(request)
        return botocore.awsrequest.AWSResponse(request.url, 200, {}, Answer(b""))

    session = botocore.session.Session()
    session.register_component("data_loader", LOADER)
    signature = None
    if os.environ.get("AWS_SKIP_SIGNATURE") == "true":
        signature = botocore.UNSIGNED
    config = botocore.config.Config(signature_version=signature, retries={"total_max_attempts": 1})
    client = session.create_client("s3", config=config)
    client.meta.events.register_first("before-send.s3", instead)
    more = {}
    if os.environ.get("AWS_REQUEST_PAYER"):
        more["RequestPayer"] = "requester"
    if os.environ.get("AWS_SSE_CUSTOMER_KEY_BASE64"):
        import base64

        more["SSECustomerAlgorithm"] = "AES256"
        more["SSECustomerKey"] = base64.b64decode(os.environ["AWS_SSE_CUSTOMER_KEY_BASE64"])
    key, _, version = key.partition("?versionId=")
    if version:
        more["VersionId"] = urllib.parse.unquote(version)
    client.get_object(Bucket=bucket, Key=urllib.parse.unquote(key), **more)
    return session, sent[-1]


def signature(case, credentials, ours):
    """The signature that botocore would make of our request."""
    key, region, service = scope(ours)
    kind = botocore.auth.S3ExpressAuth if "x-amz-s3session-token" in ours else botocore.auth.S3SigV4Auth
    request = botocore.awsrequest.AWSRequest(method="GET", url=case["url"])
    for name, value in ours.items():
        if name != "authorization":
            request.headers[name] = value
    request.context["timestamp"] = ours["x-amz-date"]
    more = {"identity_cache": None} if kind is botocore.auth.S3ExpressAuth else {}
    auth = kind(credentials, service, region, **more)
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


def aws(case):
    # The AWS CLI reads AWS_REGION first, botocore does not.
    if "AWS_REGION" in os.environ:
        os.environ["AWS_DEFAULT_REGION"] = os.environ.pop("AWS_REGION")
    # Where that is was decided when the library was loaded.
    cache = os.path.join(os.environ["HOME"], ".aws", "sso", "cache")
    botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR = cache
    botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR = cache
    try:
        session, theirs = aws_request(case["address"].partition("://")[2])
    except Exception as error:  # What it cannot do is an outcome, too.
        return [] if "error" in case else [f"botocore refuses: {error}"]
    if "error" in case:
        return [f"botocore asks {theirs.url}, not refused: {case['error']}"]
    ours, wrong = lower(case["headers"]), []
    headers = lower(theirs.headers)
    if parts(case["url"]) != parts(theirs.url):
        wrong.append(f"URL {parts(case['url'])}; botocore has {parts(theirs.url)}")
    if scope(ours) != scope(headers):
        wrong.append(f"signed for {scope(ours)}; botocore for {scope(headers)}")
    prefix = "x-amz-server-side-encryption-customer"
    names = ["x-amz-security-token", "x-amz-s3session-token", "x-amz-request-payer", "x-amz-content-sha256"]
    for name in names + [f"{prefix}-algorithm", f"{prefix}-key", f"{prefix}-key-md5"]:
        if scope(ours) and ours.get(name) != headers.get(name):
            wrong.append(f"{name}: {ours.get(name)}; botocore has {headers.get(name)}")
    if scope(ours):
        credentials = session.get_credentials().get_frozen_credentials()
        if "x-amz-s3session-token" in ours:
            credentials = botocore.credentials.Credentials("SESSION", "session-secret", "session-token")
        made = ours["authorization"].rpartition("Signature=")[2]
        if made != signature(case, credentials, ours):
            wrong.append("another signature")
    return wrong


class ToGoogle(google.auth.transport.requests.Request):
    """Some addresses are fixed in the library."""

    def __call__(self, url, **more):
        for host in ("https://oauth2.googleapis.com", "https://iamcredentials.googleapis.com"):
            url = url.replace(host, os.environ.get("STAND_IN", ""))
        return super().__call__(url, **more)


def google_cloud(case):
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
        credentials.refresh(ToGoogle())
    except Exception as error:
        return [] if "error" in case else [f"google-auth refuses: {error}"]
    if "error" in case:
        return [f"google-auth has a token, not refused: {case['error']}"]
    ours, wrong = lower(case["headers"]), []
    theirs = {}
    credentials.apply(theirs)
    theirs = lower(theirs)
    for name in ("authorization", "x-goog-user-project"):
        if ours.get(name) != theirs.get(name):
            wrong.append(f"{name}: {ours.get(name)}; google-auth has {theirs.get(name)}")
    host = f"storage.{credentials.universe_domain}"
    if urllib.parse.urlsplit(case["url"]).netloc != host:
        wrong.append(f"{case['url']} is not at {host}")
    return wrong


class ToStandIn(azure.core.pipeline.transport.RequestsTransport):
    """Microsoft's libraries take no service for log-ins but one by https."""

    def send(self, request, **more):
        request.url = request.url.replace("https://login.stand-in", os.environ.get("STAND_IN", ""))
        return super().send(request, **more)


class Caught(Exception):
    pass


class Catch(azure.core.pipeline.transport.RequestsTransport):
    def send(self, request, **_):
        self.request = request
        raise Caught()


def azure_blob(case):
    container, _, key = case["address"].partition("://")[2].partition("/")
    ours, wrong = lower(case.get("headers", {})), []
    catch = Catch()
    get = os.environ.get
    try:
        if get("AZURE_STORAGE_CONNECTION_STRING"):
            string = get("AZURE_STORAGE_CONNECTION_STRING")
            service = azure.storage.blob.BlobServiceClient.from_connection_string(string, transport=catch)
        else:
            url = f"https://{get('AZURE_STORAGE_ACCOUNT')}.blob.core.windows.net"
            credential = get("AZURE_STORAGE_KEY") or get("AZURE_STORAGE_SAS_TOKEN")
            token = None
            if credential is None:
                os.environ["AZURE_AUTHORITY_HOST"] = "https://login.stand-in"
                chain = azure.identity.DefaultAzureCredential(
                    transport=ToStandIn(), disable_instance_discovery=True, exclude_broker_credential=True
                )
                token = chain.get_token("https://storage.azure.com/.default").token
            service = azure.storage.blob.BlobServiceClient(url, credential=credential, transport=catch)
            if token and ours.get("authorization") != f"Bearer {token}":
                wrong.append(f"{ours.get('authorization')}; azure-identity has {token}")
        try:
            client = service.get_blob_client(container, urllib.parse.unquote(key))
            client.download_blob(retry_total=0)
        except Caught:
            pass
    except Exception as error:
        return [] if "error" in case else [f"Azure's library refuses: {error!r}"]
    if "error" in case:
        return [f"Azure's library asks, not refused: {case['error']}"]
    if parts(case["url"]) != parts(catch.request.url):
        wrong.append(f"URL {parts(case['url'])}; theirs {parts(catch.request.url)}")
    if ours.get("authorization", "").startswith("SharedKey"):
        account = service.account_name
        policy = azure.storage.blob._shared.authentication.SharedKeyCredentialPolicy(
            account, service.credential.account_key
        )
        headers = {name: value for name, value in ours.items() if name != "authorization"}
        request = azure.core.pipeline.transport.HttpRequest("GET", case["url"], headers=headers)
        context = azure.core.pipeline.PipelineContext(None)
        policy.on_request(azure.core.pipeline.PipelineRequest(request, context))
        if request.headers["Authorization"] != ours["authorization"]:
            wrong.append("another signature")
    return wrong


def main():
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    found = {}
    path = os.environ["PATH"]
    for case in cases:
        os.environ.clear()
        os.environ.update({"PATH": path, "AWS_METADATA_SERVICE_TIMEOUT": "5", **case["variables"]})
        judge = {"s3": aws, "gs": google_cloud, "az": azure_blob}[case["address"].partition("://")[0]]
        found[case["name"]] = judge(case)
    json.dump(found, sys.stdout)


main()
