//! The queries, over one store. All sums are of decimals, so equal results are equal texts.

use std::time::Instant;

use datafusion::{
    arrow::util::pretty::pretty_format_batches,
    execution::object_store::ObjectStoreUrl,
    prelude::{CsvReadOptions, ParquetReadOptions, SessionContext},
};
use pget_object_store::Options;

use crate::{Failure, data, stores, usage};

/// What is asked, by name: queries of TPC-H, and `scan`, which reads most columns of two tables.
pub const QUERIES: [(&str, &str); 7] = [
    (
        "scan",
        "select count(*), max(l_comment), max(l_receiptdate), sum(l_tax), max(l_shipinstruct),
             (select max(o_comment) from orders)
         from lineitem",
    ),
    (
        "Q1",
        "select l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice),
             sum(l_extendedprice * (1 - l_discount)),
             sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)), avg(l_discount), count(*)
         from lineitem where l_shipdate <= date '1998-09-02'
         group by l_returnflag, l_linestatus order by l_returnflag, l_linestatus",
    ),
    (
        "Q3",
        "select l_orderkey, sum(l_extendedprice * (1 - l_discount)) as revenue, o_orderdate
         from customer join orders on c_custkey = o_custkey join lineitem on l_orderkey = o_orderkey
         where c_mktsegment = 'BUILDING' and o_orderdate < date '1995-03-15'
             and l_shipdate > date '1995-03-15'
         group by l_orderkey, o_orderdate order by revenue desc, l_orderkey limit 10",
    ),
    (
        "Q4",
        "select o_orderpriority, count(*) from orders
         where o_orderdate >= date '1993-07-01' and o_orderdate < date '1993-10-01'
             and exists (select * from lineitem
                 where l_orderkey = o_orderkey and l_commitdate < l_receiptdate)
         group by o_orderpriority order by o_orderpriority",
    ),
    (
        "Q6",
        "select sum(l_extendedprice * l_discount) from lineitem
         where l_shipdate >= date '1994-01-01' and l_shipdate < date '1995-01-01'
             and l_discount between 0.05 and 0.07 and l_quantity < 24",
    ),
    (
        "Q12",
        "select l_shipmode, sum(case when o_orderpriority in ('1-URGENT', '2-HIGH') then 1 else 0 end)
         from orders join lineitem on o_orderkey = l_orderkey
         where l_shipmode in ('MAIL', 'SHIP') and l_commitdate < l_receiptdate
             and l_shipdate < l_commitdate and l_receiptdate >= date '1994-01-01'
             and l_receiptdate < date '1995-01-01'
         group by l_shipmode order by l_shipmode",
    ),
    (
        "Q18",
        "select c_name, o_orderkey, o_totalprice, sum(l_quantity)
         from customer join orders on c_custkey = o_custkey join lineitem on o_orderkey = l_orderkey
         where o_orderkey in (select l_orderkey from lineitem
             group by l_orderkey having sum(l_quantity) > 190)
         group by c_name, o_orderkey, o_totalprice
         order by o_totalprice desc, o_orderkey limit 10",
    ),
];

/// Runs all queries and prints `NAME, seconds, result` of each, then `peak` and `cpu`.
///
/// `PGET_ENGINES_QUERIES`, names with a space between them, chooses some of them.
pub async fn run(format: &str, store: &str, address: &str) -> Result<(), Failure> {
    let context = context(format, store, address, Options::default()).await?;
    let chosen = std::env::var("PGET_ENGINES_QUERIES").unwrap_or_default();
    for (name, query) in QUERIES {
        if !chosen.is_empty() && !chosen.split(' ').any(|word| word == name) {
            continue;
        }
        let (began, used) = (Instant::now(), usage::cpu_seconds()?);
        let batches = context.sql(query).await?.collect().await?;
        let seconds = began.elapsed().as_secs_f64();
        let cpu = usage::cpu_seconds()? - used;
        let result = pretty_format_batches(&batches)?
            .to_string()
            .replace(['\n', '\t'], " ");
        println!("{name}\t{seconds:.3}\t{cpu:.3}\t{result}");
    }
    println!("peak\t{}", usage::peak_mb()?);
    Ok(())
}

/// Returns a session that has the tables, which are read through the store.
pub async fn context(
    format: &str,
    store: &str,
    address: &str,
    options: Options,
) -> Result<SessionContext, Failure> {
    let context = SessionContext::new();
    let url = ObjectStoreUrl::parse("far://data")?;
    context.register_object_store(url.as_ref(), stores::open(store, address, options)?);
    for table in data::TABLES {
        let (name, file) = (table.name, format!("far://data/{}.{format}", table.name));
        match format {
            "csv" => {
                let schema = data::schema(&table);
                let options = CsvReadOptions::new().schema(&schema);
                context.register_csv(name, &file, options).await?;
            }
            "parquet" => {
                let options = ParquetReadOptions::default();
                context.register_parquet(name, &file, options).await?;
            }
            _ => return Err(format!("there is no format {format}: use csv or parquet").into()),
        }
    }
    Ok(context)
}
