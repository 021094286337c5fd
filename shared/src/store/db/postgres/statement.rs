//! One statement: binding its parameters, or a batch as arrays, and reading the rows of its answer.

use std::ops::Range;
use std::sync::Arc;

use futures::TryStreamExt as _;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnection, PgRow, PgTypeInfo};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column as _, Either, Postgres, Row as _, Type, TypeInfo as _};
use uuid::Uuid;

use super::super::row::{Columns, Value};
use super::super::{Answer, Batch, Kind, Param, Row, failed};
use crate::store::StoreError;

pub(super) async fn run(
    connection: &mut PgConnection,
    sql: &str,
    params: Vec<Param>,
) -> Result<Answer, StoreError> {
    let mut query = sqlx::query(AssertSqlSafe(with_locks(sql)));
    for param in params {
        query = match param {
            Param::Text(value) => query.bind(value),
            Param::Int(value) => query.bind(value),
            Param::Real(value) => query.bind(value),
            Param::Bytes(value) => query.bind(value),
            Param::Uuid(value) => query.bind(value),
        };
    }
    answer(connection, query)
        .await
        .map_err(|error| failed(sql, error))
}

fn with_locks(sql: &str) -> String {
    sql.replace("{skip_locked}", "FOR UPDATE OF d SKIP LOCKED")
        .replace("{lock}", "FOR UPDATE OF d")
}

/// The most bytes of parameters in a statement, roughly: 500 results with payloads of 1 KB are one
/// statement, and a batch with payloads of megabytes is not copied as a whole into the connection's
/// buffer, which never shrinks.
const STATEMENT_BYTES: usize = 1024 * 1024;

/// A batch is one statement, or a few if it is long: each column is an array.
pub(super) async fn run_batch(
    connection: &mut PgConnection,
    sql: &'static str,
    batch: Batch,
) -> Result<Answer, StoreError> {
    let mut whole = Answer::default();
    // Arrays and UNNEST, so that the text is the same for every number of rows and is prepared
    // once.
    let text: Arc<str> = with_locks(sql).replace("{rows}", &source(&batch)).into();
    let batch = Arc::new(batch);
    // Within the caller's transaction, or statement by statement without one: a reader does not
    // need all of it to be of one moment.
    for rows in batch.pieces(STATEMENT_BYTES) {
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&text)));
        for index in 0..batch.columns.len() {
            query = query.bind(Column {
                batch: Arc::clone(&batch),
                rows: rows.clone(),
                index,
            });
        }
        let answer = answer(connection, query.bind(count))
            .await
            .map_err(|error| failed(sql, error))?;
        whole.rows.extend(answer.rows);
        whole.affected += answer.affected;
    }
    Ok(whole)
}

/// The rows as a table `u`. The limit is their number, so it takes none away: it makes a plan that
/// is kept expect one row (Postgres takes a tenth of the ten that it expects of any array), so that
/// tables are joined by looking up row after row. Expecting ten, it reads a table as a whole that
/// was small when the plan was made, and goes on to do so for as long as it keeps the plan.
fn source(batch: &Batch) -> String {
    let arrays: Vec<String> = batch
        .columns
        .iter()
        .enumerate()
        .map(|(index, (_, kind))| {
            let kind = match kind {
                Kind::Text => "text",
                Kind::Int => "bigint",
                Kind::Bytes => "bytea",
                Kind::Uuid => "uuid",
            };
            format!("${}::{kind}[]", index + 1)
        })
        .collect();
    let names: Vec<&str> = batch.columns.iter().map(|(name, _)| *name).collect();
    format!(
        "(SELECT * FROM UNNEST({}) AS u({}) LIMIT ${}) AS u",
        arrays.join(", "),
        names.join(", "),
        arrays.len() + 1
    )
}

/// One column of a batch as a parameter: an array, written from the rows to the wire without a copy
/// in between.
struct Column {
    batch: Arc<Batch>,
    rows: Range<usize>,
    index: usize,
}

impl Column {
    fn kind(&self) -> (&'static str, Kind) {
        self.batch.columns[self.index]
    }

    fn values(&self) -> impl Iterator<Item = &Param> {
        // The values lie row after row, and Postgres wants a column after the other.
        let width = self.batch.columns.len();
        self.batch.values[self.rows.start * width..self.rows.end * width]
            .iter()
            .skip(self.index)
            .step_by(width)
    }
}

impl Type<Postgres> for Column {
    fn type_info() -> PgTypeInfo {
        // Never asked for: each value says its own type.
        <Vec<String> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Column {
    /// Postgres' binary form of an array: the number of dimensions, whether there are NULLs, the
    /// elements' type, their number, the index of the first; then each with its length, -1 for
    /// NULL.
    ///
    /// # Errors
    /// A value of another type than its column's, which is a mistake in this program. It is refused
    /// and not left out: a column would then be shorter than the others, `UNNEST` would pair its
    /// values with the rows before theirs, and fill up the last ones with NULL.
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let (name, kind) = self.kind();
        let count = i32::try_from(self.rows.len())?;
        let mut put = |number: i32| buffer.extend_from_slice(&number.to_be_bytes());
        put(1);
        // Postgres finds NULLs by their lengths, and takes this flag for a hint.
        put(1);
        put(element_oid(kind));
        put(count);
        put(1);
        for value in self.values() {
            match (kind, value) {
                (Kind::Text, Param::Text(value)) => {
                    put_element(buffer, value.as_ref().map(String::as_bytes))?;
                }
                (Kind::Int, Param::Int(value)) => {
                    put_element(buffer, value.map(i64::to_be_bytes).as_ref())?;
                }
                (Kind::Bytes, Param::Bytes(value)) => put_element(buffer, value.as_ref())?,
                (Kind::Uuid, Param::Uuid(value)) => {
                    put_element(buffer, value.as_ref().map(Uuid::as_bytes))?;
                }
                _ => {
                    // The value itself may be a secret.
                    let problem =
                        format!("a value for the column {name} is not of the type {kind:?}");
                    return Err(problem.into());
                }
            }
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(match self.kind().1 {
            Kind::Text => <Vec<String> as Type<Postgres>>::type_info(),
            Kind::Int => <Vec<i64> as Type<Postgres>>::type_info(),
            Kind::Bytes => <Vec<Vec<u8>> as Type<Postgres>>::type_info(),
            Kind::Uuid => <Vec<Uuid> as Type<Postgres>>::type_info(),
        })
    }

    fn size_hint(&self) -> usize {
        ARRAY_HEAD + self.values().map(Param::size).sum::<usize>()
    }
}

/// Bytes of an array before its elements.
const ARRAY_HEAD: usize = 5 * size_of::<i32>();

/// The type's number, the same in every server: `pg_type.dat` of Postgres.
const fn element_oid(kind: Kind) -> i32 {
    match kind {
        Kind::Bytes => 17,
        Kind::Int => 20,
        Kind::Text => 25,
        Kind::Uuid => 2950,
    }
}

fn put_element(
    buffer: &mut PgArgumentBuffer,
    value: Option<impl AsRef<[u8]>>,
) -> Result<(), BoxDynError> {
    let Some(value) = value else {
        buffer.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(());
    };
    let value = value.as_ref();
    buffer.extend_from_slice(&i32::try_from(value.len())?.to_be_bytes());
    buffer.extend_from_slice(value);
    Ok(())
}

async fn answer(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Answer, sqlx::Error> {
    let mut answer = Answer::default();
    #[expect(
        deprecated,
        reason = "the one call that gives both the rows and their count"
    )]
    let mut stream = query.fetch_many(connection);
    let mut columns = None;
    while let Some(step) = stream.try_next().await? {
        match step {
            Either::Left(result) => answer.affected += result.rows_affected(),
            Either::Right(row) => {
                let names = columns.get_or_insert_with(|| names(&row));
                answer.rows.push(Row {
                    columns: Arc::clone(names),
                    values: decode(&row)?,
                });
            }
        }
    }
    Ok(answer)
}

fn names(row: &PgRow) -> Columns {
    row.columns()
        .iter()
        .map(|column| column.name().into())
        .collect()
}

fn decode(row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    let values = row.columns().iter().enumerate().map(|(index, column)| {
        let value = match column.type_info().name() {
            "TEXT" | "VARCHAR" | "NAME" => {
                row.try_get::<Option<String>, _>(index)?.map(Value::Text)
            }
            "INT8" => row.try_get::<Option<i64>, _>(index)?.map(Value::Int),
            "INT4" => row
                .try_get::<Option<i32>, _>(index)?
                .map(|number| Value::Int(number.into())),
            "FLOAT8" => row.try_get::<Option<f64>, _>(index)?.map(Value::Real),
            "BYTEA" => row.try_get::<Option<Vec<u8>>, _>(index)?.map(Value::Bytes),
            "UUID" => row.try_get::<Option<Uuid>, _>(index)?.map(Value::Uuid),
            other => {
                return Err(sqlx::Error::TypeNotFound {
                    type_name: other.to_owned(),
                });
            }
        };
        Ok(value.unwrap_or(Value::Null))
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(batch: Batch, index: usize) -> Result<Vec<u8>, BoxDynError> {
        let rows = 0..batch.len();
        let batch = Arc::new(batch);
        let mut buffer = PgArgumentBuffer::default();
        let is_null = Column { batch, rows, index }.encode_by_ref(&mut buffer)?;
        assert!(matches!(is_null, IsNull::No));
        Ok(buffer.to_vec())
    }

    /// sqlx's own form of an array, to compare with.
    fn of_sqlx<T>(values: Vec<T>) -> Vec<u8>
    where
        Vec<T>: for<'q> Encode<'q, Postgres>,
    {
        let mut buffer = PgArgumentBuffer::default();
        drop(values.encode_by_ref(&mut buffer));
        // It leaves out that there are NULLs.
        buffer[7] = 1;
        buffer.to_vec()
    }

    #[test]
    fn a_column_is_an_array_as_sqlx_writes_it() {
        const COLUMNS: &[(&str, Kind)] = &[
            ("key", Kind::Uuid),
            ("round", Kind::Int),
            ("name", Kind::Text),
            ("payload", Kind::Bytes),
        ];
        let batch = || {
            let mut batch = Batch::new(COLUMNS);
            batch.push([
                Param::uuid(Uuid::max()),
                Param::int(-7),
                Param::text("a"),
                Param::bytes([1, 2]),
            ]);
            let null = [Param::Uuid(None), Param::Int(None), Param::Text(None)];
            batch.push(null.into_iter().chain([Param::Bytes(None)]));
            batch
        };
        let expected = [
            of_sqlx(vec![Some(Uuid::max()), None]),
            of_sqlx(vec![Some(-7_i64), None]),
            of_sqlx(vec![Some("a".to_owned()), None]),
            of_sqlx(vec![Some(vec![1_u8, 2]), None]),
        ];
        for (index, expected) in expected.into_iter().enumerate() {
            assert_eq!(encoded(batch(), index).ok(), Some(expected), "{index}");
        }
    }

    #[test]
    fn a_value_of_another_type_than_its_columns_is_refused() {
        let mut batch = Batch::new(&[("key", Kind::Uuid), ("round", Kind::Int)]);
        batch.push([Param::uuid(Uuid::nil()), Param::text("one")]);
        batch.push([Param::uuid(Uuid::nil()), Param::count(2)]);
        let error = encoded(batch, 1)
            .err()
            .map(|error| failed("-- a.query", sqlx::Error::Encode(error)));
        assert!(
            matches!(&error, Some(StoreError::Refused { query, source })
                if query == "a.query" && source.to_string().contains("column round")),
            "{error:?}"
        );
        assert!(error.is_some_and(|error| !error.is_transient() && !error.is_about_data()));
    }
}
