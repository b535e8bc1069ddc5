//! Tables of results: columns have a name and a type once, and CSV and Parquet say the same of them.
//!
//! A cell may be empty. In CSV it has no characters then; in Parquet every column is optional. Numbers are printed so that reading them
//! gives the same number. Parquet is written without compression: pages are dictionaries and runs already, and every reader
//! has that.

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use std::borrow::Cow;
use std::sync::Arc;

/// Most rows of one row group: what a reader holds in memory at once.
const GROUP_ROWS: usize = 1 << 20;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Whole numbers from 0 on.
    Count,
    /// Numbers.
    Number,
    /// Yes or no.
    Flag,
}

/// What a row has in a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// Text.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    columns: Vec<(String, Kind)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(columns: &[(&str, Kind)]) -> Self {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        Self { columns, rows: Vec::new() }
    }

    /// One row more: a cell for each column. What is not of its column's type is left empty.
    pub fn push(&mut self, row: Vec<Cell>) {
        let mut row = row.into_iter();
        let fitted = self.columns.iter().map(|(_, kind)| match (kind, row.next()) {
            (Kind::Text, Some(cell @ Cell::Text(_)))
            | (Kind::Count, Some(cell @ Cell::Count(_)))
            | (Kind::Number, Some(cell @ Cell::Number(_)))
            | (Kind::Flag, Some(cell @ Cell::Flag(_))) => cell,
            _ => Cell::Empty,
        });
        self.rows.push(fitted.collect());
    }

    /// Of JSON objects: the columns are the fields of the first one, and a column's type is what all its values are. Lists are
    /// joined to text.
    #[must_use]
    pub fn of_objects(objects: &[serde_json::Value]) -> Self {
        let fields = objects.first().and_then(|first| first.as_object());
        let names: Vec<&String> = fields.map_or_else(Vec::new, |fields| fields.keys().collect());
        let kind = |name: &&String| {
            let all = |is: fn(&serde_json::Value) -> bool| {
                let mut values = objects.iter().map(|o| &o[name.as_str()]).filter(|v| !v.is_null());
                values.clone().next().is_some() && values.all(is)
            };
            match () {
                () if all(serde_json::Value::is_boolean) => Kind::Flag,
                () if all(serde_json::Value::is_u64) => Kind::Count,
                () if all(serde_json::Value::is_number) => Kind::Number,
                () => Kind::Text,
            }
        };
        let columns: Vec<(&str, Kind)> =
            names.iter().map(|name| (name.as_str(), kind(name))).collect();
        let mut table = Self::new(&columns);
        for object in objects {
            table.push(columns.iter().map(|(name, kind)| cell(&object[*name], *kind)).collect());
        }
        table
    }

    /// As JSON objects, one a row: `null` for what is empty.
    #[must_use]
    pub fn objects(&self) -> Vec<serde_json::Value> {
        let value = |cell: &Cell| match cell {
            Cell::Empty => serde_json::Value::Null,
            Cell::Text(text) => text.as_str().into(),
            Cell::Count(count) => (*count).into(),
            Cell::Number(number) => (*number).into(),
            Cell::Flag(flag) => (*flag).into(),
        };
        let object = |row: &Vec<Cell>| -> serde_json::Value {
            let names = self.columns.iter().map(|(name, _)| name.clone());
            let fields: serde_json::Map<_, _> = names.zip(row.iter().map(value)).collect();
            fields.into()
        };
        self.rows.iter().map(object).collect()
    }

    /// As CSV (RFC 4180) with a header.
    #[must_use]
    pub fn csv(&self) -> String {
        let line = |fields: Vec<Cow<'_, str>>| fields.join(",") + "\n";
        let mut text = line(self.columns.iter().map(|(name, _)| quoted(name)).collect());
        for row in &self.rows {
            text += &line(row.iter().map(field).collect());
        }
        text
    }

    /// As a Parquet file.
    ///
    /// # Errors
    /// [`ParquetError`] when columns are called the same.
    pub fn parquet(&self) -> Result<Vec<u8>, ParquetError> {
        let fields = self.columns.iter().map(|(name, kind)| column(name, *kind).map(Arc::new));
        let schema = Type::group_type_builder("table")
            .with_fields(fields.collect::<Result<Vec<_>, _>>()?)
            .build()?;
        let properties = Arc::new(WriterProperties::builder().build());
        let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties)?;
        for rows in self.rows.chunks(GROUP_ROWS) {
            let mut group = file.next_row_group()?;
            for (index, (_, kind)) in self.columns.iter().enumerate() {
                let Some(mut writer) = group.next_column()? else { break };
                let cells = rows.iter().map(|row| &row[index]);
                write(&mut writer, *kind, cells)?;
                writer.close()?;
            }
            group.close()?;
        }
        file.into_inner()
    }
}

fn cell(value: &serde_json::Value, kind: Kind) -> Cell {
    use serde_json::Value;
    match (kind, value) {
        (_, Value::Null) => Cell::Empty,
        (Kind::Flag, value) => value.as_bool().into(),
        (Kind::Count, value) => value.as_u64().into(),
        (Kind::Number, value) => value.as_f64().map_or(Cell::Empty, Cell::Number),
        (Kind::Text, Value::String(text)) => Cell::Text(text.clone()),
        (Kind::Text, Value::Array(all)) => {
            let all: Vec<String> = all.iter().map(plain).collect();
            Cell::Text(all.join("; "))
        }
        (Kind::Text, other) => Cell::Text(other.to_string()),
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn field(cell: &Cell) -> Cow<'_, str> {
    match cell {
        Cell::Empty => "".into(),
        Cell::Text(text) => quoted(text),
        Cell::Count(count) => count.to_string().into(),
        // As JSON has it.
        Cell::Number(number) => serde_json::json!(number).to_string().into(),
        Cell::Flag(flag) => flag.to_string().into(),
    }
}

/// A field as RFC 4180 has it.
fn quoted(field: &str) -> Cow<'_, str> {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\"")).into()
    } else {
        field.into()
    }
}

fn column(name: &str, kind: Kind) -> Result<Type, ParquetError> {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Count => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Kind::Number => (Physical::DOUBLE, None),
        Kind::Flag => (Physical::BOOLEAN, None),
    };
    Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(Repetition::OPTIONAL)
        .build()
}

fn write<'a>(
    writer: &mut SerializedColumnWriter<'_>,
    kind: Kind,
    cells: impl Iterator<Item = &'a Cell> + Clone,
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = cells.clone().map(|cell| i16::from(*cell != Cell::Empty)).collect();
    let levels = Some(levels.as_slice());
    match kind {
        Kind::Text => {
            let value = |cell: &Cell| match cell {
                Cell::Text(text) => Some(ByteArray::from(text.as_bytes().to_vec())),
                _ => None,
            };
            let values: Vec<ByteArray> = cells.filter_map(value).collect();
            writer.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
        }
        Kind::Count => {
            let value = |cell: &Cell| match cell {
                // The bits of what is meant without a sign.
                Cell::Count(count) => Some(count.cast_signed()),
                _ => None,
            };
            let values: Vec<i64> = cells.filter_map(value).collect();
            writer.typed::<Int64Type>().write_batch(&values, levels, None)?;
        }
        Kind::Number => {
            let value = |cell: &Cell| match cell {
                Cell::Number(number) => Some(*number),
                _ => None,
            };
            let values: Vec<f64> = cells.filter_map(value).collect();
            writer.typed::<DoubleType>().write_batch(&values, levels, None)?;
        }
        Kind::Flag => {
            let value = |cell: &Cell| match cell {
                Cell::Flag(flag) => Some(*flag),
                _ => None,
            };
            let values: Vec<bool> = cells.filter_map(value).collect();
            writer.typed::<BoolType>().write_batch(&values, levels, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    use proptest::prelude::*;
    use serde_json::json;
    use std::io::Write;

    const COLUMNS: [(&str, Kind); 4] = [
        ("name", Kind::Text),
        ("count", Kind::Count),
        ("share, of all", Kind::Number),
        ("is so", Kind::Flag),
    ];

    fn read_back(table: &Table) -> Vec<Vec<Cell>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&table.parquet().unwrap()).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr();
        let names = schema.columns().iter().map(|column| column.name());
        assert!(names.eq(table.columns.iter().map(|(name, _)| name.as_str())));
        let cell = |field: &Field| match field {
            Field::Null => Cell::Empty,
            Field::Str(text) => Cell::Text(text.clone()),
            Field::ULong(count) => Cell::Count(*count),
            Field::Double(number) => Cell::Number(*number),
            Field::Bool(flag) => Cell::Flag(*flag),
            other => panic!("{other:?}"),
        };
        let rows = reader.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().get_column_iter().map(|(_, field)| cell(field)).collect())
            .collect()
    }

    fn any_row() -> impl Strategy<Value = Vec<Cell>> {
        let text = prop::option::of("[a-z,\"\n ]{0,6}");
        let row = (text, any::<Option<u64>>(), any::<Option<f64>>(), any::<Option<bool>>());
        row.prop_map(|(text, count, number, flag)| {
            let number = number.filter(|n| n.is_finite()).map_or(Cell::Empty, Cell::Number);
            vec![text.as_deref().into(), count.into(), number, flag.into()]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn parquet_gives_back_what_was_written(rows in prop::collection::vec(any_row(), 0..20)) {
            let mut table = Table::new(&COLUMNS);
            rows.iter().cloned().for_each(|row| table.push(row));
            prop_assert_eq!(read_back(&table), rows);
        }

        #[test]
        fn numbers_in_csv_read_back_as_they_were(number in any::<f64>()) {
            prop_assume!(number.is_finite());
            let read: f64 = field(&Cell::Number(number)).parse().unwrap();
            prop_assert_eq!(read.to_bits(), number.to_bits());
        }
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        let mut table = Table::new(&COLUMNS);
        table.push(vec!["a \"b\", c".into(), 7.into(), Cell::Number(1e-15), true.into()]);
        table.push(vec![Cell::Empty, "no count".into(), Cell::Empty, Cell::Empty]);
        assert_eq!(
            table.csv(),
            "name,count,\"share, of all\",is so\n\"a \"\"b\"\", c\",7,1e-15,true\n,,,\n"
        );
    }

    #[test]
    fn a_column_of_objects_has_the_type_of_all_its_values() {
        let objects = [
            json!({ "k": 2, "loss": 1, "who": ["a", "b"], "fits": true, "mixed": 1, "none": null }),
            json!({ "k": 3, "loss": 1e-9, "who": [], "fits": null, "mixed": "-", "none": null }),
        ];
        let table = Table::of_objects(&objects);
        let kinds: Vec<(&str, Kind)> =
            table.columns.iter().map(|(n, k)| (n.as_str(), *k)).collect();
        let expected = [
            ("fits", Kind::Flag),
            ("k", Kind::Count),
            ("loss", Kind::Number),
            ("mixed", Kind::Text),
            ("none", Kind::Text),
            ("who", Kind::Text),
        ];
        let mut sorted = kinds.clone();
        sorted.sort_by_key(|(name, _)| *name);
        assert_eq!(sorted, expected);
        let line = table.csv().lines().nth(1).unwrap().to_owned();
        assert!(line.contains("a; b") && line.contains("true"), "{line}");
        assert_eq!(read_back(&table), table.rows);
    }
}
