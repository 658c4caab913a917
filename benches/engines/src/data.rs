//! The tables, made by a fixed formula: `lineitem`, `orders` with a quarter of its rows, `customer`
//! with a fortieth. Their columns are those of TPC-H.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray},
        csv,
        datatypes::{DataType, Field, Schema},
    },
    parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties},
};

use crate::Failure;

/// Rows that are made at once.
const BATCH: u64 = 100_000;
/// Days from 1970 to 1992, in which the first order was made.
const FIRST_DAY: u64 = 8035;
/// Digits of decimals, and those after the point.
const DECIMAL: (u8, i8) = (15, 2);

/// A table.
pub struct Table {
    pub name: &'static str,
    /// One row of this many rows of `lineitem`.
    share: u64,
    columns: &'static [(&'static str, Kind)],
}

/// How the value of a column is computed from its row.
#[derive(Clone, Copy)]
enum Kind {
    /// The number of the row, divided.
    Key(u64),
    /// A number below this one.
    Number(u64),
    /// A key below the number of rows, divided by this number.
    Foreign(u64),
    /// Hundredths, from the first to the second number.
    Decimal(u64, u64),
    /// A day of the order, and a random number of days below this one.
    Day(u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A word and the number of the row.
    Named(&'static str),
    /// This many words.
    Comment(u64),
}

use Kind::{Comment, Day, Decimal, Foreign, Key, Named, Number, Word};

const PRIORITIES: &[&str] = &["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"];
const SEGMENTS: &[&str] = &["AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY"];
const WORDS: [&str; 16] = [
    "furiously",
    "quickly",
    "carefully",
    "ironic",
    "pending",
    "deposits",
    "accounts",
    "requests",
    "theodolites",
    "packages",
    "above",
    "along",
    "foxes",
    "even",
    "sleep",
    "special",
];

pub const TABLES: [Table; 3] = [
    Table {
        name: "lineitem",
        share: 1,
        columns: &[
            ("l_orderkey", Key(4)),
            ("l_partkey", Number(200_000)),
            ("l_suppkey", Number(10_000)),
            ("l_linenumber", Number(7)),
            ("l_quantity", Decimal(100, 5100)),
            ("l_extendedprice", Decimal(90_000, 10_500_000)),
            ("l_discount", Decimal(0, 11)),
            ("l_tax", Decimal(0, 9)),
            ("l_returnflag", Word(&["A", "N", "R"])),
            ("l_linestatus", Word(&["F", "O"])),
            ("l_shipdate", Day(121)),
            ("l_commitdate", Day(122)),
            ("l_receiptdate", Day(151)),
            (
                "l_shipinstruct",
                Word(&["COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN"]),
            ),
            (
                "l_shipmode",
                Word(&["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"]),
            ),
            ("l_comment", Comment(4)),
        ],
    },
    Table {
        name: "orders",
        share: 4,
        columns: &[
            ("o_orderkey", Key(1)),
            ("o_custkey", Foreign(10)),
            ("o_orderstatus", Word(&["F", "O", "P"])),
            ("o_totalprice", Decimal(90_000, 50_000_000)),
            ("o_orderdate", Day(1)),
            ("o_orderpriority", Word(PRIORITIES)),
            ("o_clerk", Named("Clerk")),
            ("o_shippriority", Number(1)),
            ("o_comment", Comment(7)),
        ],
    },
    Table {
        name: "customer",
        share: 40,
        columns: &[
            ("c_custkey", Key(1)),
            ("c_name", Named("Customer")),
            ("c_address", Comment(3)),
            ("c_nationkey", Number(25)),
            ("c_phone", Number(10_000_000_000)),
            ("c_acctbal", Decimal(0, 1_000_000)),
            ("c_mktsegment", Word(SEGMENTS)),
            ("c_comment", Comment(10)),
        ],
    },
];

/// Returns the columns of a table.
pub fn schema(table: &Table) -> Schema {
    let field = |(name, kind): &(&str, Kind)| {
        let data_type = match kind {
            Key(_) | Number(_) | Foreign(_) => DataType::Int64,
            Decimal(..) => DataType::Decimal128(DECIMAL.0, DECIMAL.1),
            Day(_) => DataType::Date32,
            Word(_) | Named(_) | Comment(_) => DataType::Utf8,
        };
        Field::new(*name, data_type, false)
    };
    Schema::new(table.columns.iter().map(field).collect::<Vec<Field>>())
}

/// Makes the tables of `rows` lines in `folder`, unless they are there.
pub fn make(folder: &Path, rows: u64) -> Result<(), Failure> {
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    for table in &TABLES {
        write(folder, table, rows / table.share)?;
    }
    Ok(std::fs::write(complete, "")?)
}

fn write(folder: &Path, table: &Table, rows: u64) -> Result<(), Failure> {
    let schema = Arc::new(schema(table));
    let file = |ending| File::create(folder.join(format!("{}.{ending}", table.name)));
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    let mut parquet = ArrowWriter::try_new(file("parquet")?, Arc::clone(&schema), Some(properties.build()))?;
    let mut csv = csv::Writer::new(std::io::BufWriter::new(file("csv")?));
    for from in (0..rows).step_by(100_000) {
        let range = from..(from + BATCH).min(rows);
        let columns = table.columns.iter().zip(0..);
        let arrays = columns.map(|((_, kind), column)| values(*kind, table, column, rows, range.clone()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.collect::<Result<_, _>>()?)?;
        parquet.write(&batch)?;
        csv.write(&batch)?;
    }
    parquet.close()?;
    Ok(())
}

/// Returns a number below `most` that depends on row and column (splitmix64).
fn any(row: u64, column: u64, most: u64) -> u64 {
    let mut z = (row * 64 + column + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % most
}

fn values(kind: Kind, table: &Table, column: u64, rows: u64, range: Range<u64>) -> Result<ArrayRef, Failure> {
    // Columns of different tables differ.
    let column = column + 16 * table.share.min(3);
    let numbers = |value: &dyn Fn(u64) -> u64| -> Result<Vec<i64>, Failure> {
        range.clone().map(|row| Ok(i64::try_from(value(row))?)).collect()
    };
    let words =
        |value: &dyn Fn(u64) -> String| Arc::new(StringArray::from_iter_values(range.clone().map(value)));
    let pick = |words: &[&'static str], row, column| {
        let at = any(row, column, words.len() as u64);
        usize::try_from(at).map_or("", |at| words[at])
    };
    Ok(match kind {
        Key(divisor) => Arc::new(Int64Array::from(numbers(&|row| row / divisor)?)),
        Number(most) => Arc::new(Int64Array::from(numbers(&|row| any(row, column, most))?)),
        Foreign(share) => {
            let most = (rows / share).max(1);
            Arc::new(Int64Array::from(numbers(&|row| any(row, column, most))?))
        }
        Decimal(from, to) => {
            let hundredths = numbers(&|row| from + any(row, column, to - from))?;
            let array = Decimal128Array::from_iter_values(hundredths.into_iter().map(i128::from));
            Arc::new(array.with_precision_and_scale(DECIMAL.0, DECIMAL.1)?)
        }
        Day(most) => {
            // A row of `lineitem` belongs to the order whose number is a quarter of its own.
            let order = |row: u64| if table.share == 1 { row / 4 } else { row };
            let day = |row| FIRST_DAY + any(order(row), 63, 2406) + any(row, column, most);
            let days = numbers(&day)?.into_iter().map(i32::try_from);
            Arc::new(Date32Array::from(days.collect::<Result<Vec<i32>, _>>()?))
        }
        Word(list) => words(&|row| pick(list, row, column).to_owned()),
        Named(word) => words(&|row| format!("{word}#{row:09}")),
        Comment(count) => words(&|row| {
            let part = |part| pick(&WORDS, row * 16 + part, column);
            (0..count).map(part).collect::<Vec<_>>().join(" ")
        }),
    })
}
