//! The testkit's servers as a program, for tests in other languages (`go/`).
//!
//! The program prints a line `NAME ADDRESS` for each server, then `ready`. After that, it answers
//! each line `served PATH` of its standard input with the number of faults that the misbehaving
//! server put on the wire for that path. It ends with its input.
//!
//! A server whose program is not installed is skipped, unless the environment has `CI`.

use std::{
    error::Error,
    io::{self, BufRead as _, Write as _},
};

use pget_testkit::{
    aistore::{self, BucketOptions, Cluster, ClusterOptions, Rule},
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
    servers::{Nginx, NginxOptions, Versitygw, VersitygwOptions, require},
};

/// `go/servers_test.go` uses the same values.
const SEED: u64 = 7;
const GOOD: u64 = 5 * 1024 * 1024 + 123;
const SMALL: u64 = 1000;
const BIG: u64 = 64 * 1024 * 1024 + 5;
const CHUNK: u64 = 64 * 1024;
const SIZES: [u64; 6] = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3];

fn main() -> Result<(), Box<dyn Error>> {
    let hostile = misbehaving()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let cluster = runtime.block_on(Cluster::start(ClusterOptions::default()));
    cluster.create_bucket("bucket", BucketOptions::default());
    cluster.put("bucket", "good", aistore::Object::pattern(SEED, GOOD));
    cluster.create_bucket("ranges", BucketOptions::default().read_range_checksum());
    for name in ["good", "damaged"] {
        cluster.put("ranges", name, aistore::Object::pattern(SEED, GOOD));
    }
    let flip = aistore::Fault::Flip { offset: 1_234_567 };
    cluster.inject(Rule::new(flip).object("damaged").times(u64::MAX));
    println!("hostile {}", hostile.url(""));
    println!("aistore {}", cluster.endpoint());

    let nginx = require(Nginx::start(&NginxOptions::default()));
    if let Some(nginx) = &nginx {
        let pattern = Pattern::new(SEED);
        for size in SIZES.into_iter().chain([GOOD, BIG]) {
            std::fs::write(
                nginx.root().join(size.to_string()),
                pattern.bytes(0, usize::try_from(size)?),
            )?;
        }
        println!("nginx {}", nginx.url(""));
    }
    let s3 = require(Versitygw::start(VersitygwOptions::default()));
    if let Some(s3) = &s3 {
        let endpoint = s3.endpoint();
        for size in SIZES.into_iter().chain([GOOD]) {
            endpoint.put_pattern(&size.to_string(), Pattern::new(SEED), size)?;
        }
        println!(
            "s3 {} {} {} {} {}",
            endpoint.url(),
            endpoint.access_key(),
            endpoint.secret_key(),
            endpoint.region(),
            endpoint.bucket()
        );
    }
    println!("ready");
    for line in io::stdin().lock().lines() {
        if let Some(path) = line?.strip_prefix("served ") {
            println!("{}", hostile.served(path));
        }
        io::stdout().flush()?;
    }
    Ok(())
}

fn misbehaving() -> io::Result<Hostile> {
    let server = Hostile::start()?;
    let good = || Route::new(Object::new(SEED, GOOD));
    let small = || Route::new(Object::new(SEED, SMALL));
    for size in SIZES {
        server.route(&format!("/{size}"), Route::new(Object::new(SEED, size)));
    }
    server.route("/good", good());
    server.route("/denied", good().fault(When::HeadToo, Fault::status(403)));
    server.route("/unavailable", good().fault(When::HeadToo, Fault::status(503)));
    server.route("/nonsense", good().fault(When::Always, Fault::Shifted { by: 8 }));
    let other = Fault::Revision(Object::new(SEED + 1, GOOD));
    server.route("/changed", good().ignoring_conditions().fault(When::Later, other));
    server.route("/silent", good().fault(When::HeadToo, Fault::StallBeforeHead));
    let later = good().fault(When::Later, Fault::StallBeforeHead);
    server.route("/silent-later", later);
    let stall = Fault::Stall { after: 70_000 };
    server.route("/stalls", good().fault(When::Always, stall));
    server.route("/closes", small().fault(When::HeadToo, Fault::CloseAfter));
    server.route("/resets", small().fault(When::Reused, Fault::ResetBeforeHead));
    let on_reuse = small().fault(When::HeadToo, Fault::CloseOnReuse);
    server.route("/closes-reused", on_reuse);
    Ok(server)
}
