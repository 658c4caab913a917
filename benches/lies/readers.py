"""Reads one object into a file with a reader in Python.

usage: readers.py READER ENDPOINT FILE

After an error, the program prints one line on standard error and exits with 1. The AIStore client
uses the variables CHUNK and CONCURRENCY.
"""

import os
import sys

MIB = 1 << 20


def s3transfer(endpoint, file):
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    config = Config(connect_timeout=3, read_timeout=3, retries={"max_attempts": 3}, s3={"addressing_style": "path"})
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=config,
    )
    transfer = TransferConfig(multipart_threshold=MIB, multipart_chunksize=MIB, max_concurrency=4)
    client.download_file("b", "o", file, Config=transfer)


def aistore(endpoint, file):
    from aistore.sdk import Client
    from aistore.sdk.retry_config import RetryConfig
    from tenacity import stop_after_attempt, wait_fixed
    from urllib3 import Retry

    retry = RetryConfig.default()
    retry.http_retry = Retry(total=3, backoff_factor=0.1, status_forcelist=[429, 500, 502, 503, 504], connect=0, read=0)
    retry.network_retry = retry.network_retry.copy(stop=stop_after_attempt(3), wait=wait_fixed(0.1))
    client = Client(endpoint, timeout=3, retry_config=retry)
    reader = client.bucket("b").object("o").get_reader(chunk_size=int(os.environ.get("CHUNK", MIB)), num_workers=int(os.environ.get("CONCURRENCY", 4)))
    with reader.read_all() as buffer, open(file, "wb") as output:
        output.write(buffer.tobytes())


if __name__ == "__main__":
    reader, endpoint, file = sys.argv[1:]
    try:
        {"s3transfer": s3transfer, "aistore": aistore}[reader](endpoint, file)
    except Exception as error:
        print(f"{type(error).__name__}: {error}"[:300], file=sys.stderr)
        sys.exit(1)
