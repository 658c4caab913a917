//! Reads S3 (and what object_store signs for: GCS, Azure) in parallel ranges; credentials and signing by object_store.
