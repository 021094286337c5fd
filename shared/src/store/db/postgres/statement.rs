//! One statement: binding its parameters, or a batch as arrays, and reading the rows of its answer.

use std::sync::Arc;

use futures::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column as _, Either, Postgres, Row as _, TypeInfo as _};
use uuid::Uuid;

use super::super::row::{Columns, Value};
use super::super::{Answer, Batch, Kind, Param, Row, failed};
use crate::store::StoreError;

/// The most bytes of parameters in a statement, roughly. sqlx does not set TCP_NODELAY, so that the
/// end of a longer message waits up to 40 ms for a delayed acknowledgement (measured: 5 ms for 50
/// rows, 95 ms for 100); several short statements are far quicker.
const STATEMENT_BYTES: usize = 12 * 1024;

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

/// A batch is one statement, or a few: each column is an array.
pub(super) async fn run_batch(
    connection: &mut PgConnection,
    sql: &'static str,
    batch: Batch,
) -> Result<Answer, StoreError> {
    let mut whole = Answer::default();
    // Within the caller's transaction, or statement by statement without one: a reader does not
    // need all of it to be of one moment.
    for piece in batch.pieces(STATEMENT_BYTES) {
        let answer = run_piece(connection, sql, piece).await?;
        whole.rows.extend(answer.rows);
        whole.affected += answer.affected;
    }
    Ok(whole)
}

async fn run_piece(
    connection: &mut PgConnection,
    sql: &'static str,
    batch: Batch,
) -> Result<Answer, StoreError> {
    // Arrays and UNNEST, so that the text is the same for every number of rows and is prepared
    // once.
    let mut query = sqlx::query(AssertSqlSafe(
        with_locks(sql).replace("{rows}", &source(&batch)),
    ));
    for column in columns(batch).map_err(|error| failed(sql, error))? {
        query = match column {
            Column::Text(values) => query.bind(values),
            Column::Int(values) => query.bind(values),
            Column::Bytes(values) => query.bind(values),
            Column::Uuid(values) => query.bind(values),
        };
    }
    answer(connection, query)
        .await
        .map_err(|error| failed(sql, error))
}

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
    format!("UNNEST({}) AS u({})", arrays.join(", "), names.join(", "))
}

enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Uuid(Vec<Option<Uuid>>),
}

/// The batch column by column.
///
/// # Errors
/// A value of another type than its column's, which is a mistake in this program. It is refused
/// and not left out: a column would then be shorter than the others, `UNNEST` would pair its values
/// with the rows before theirs, and fill up the last ones with NULL.
fn columns(batch: Batch) -> Result<Vec<Column>, sqlx::Error> {
    let empty = |(_, kind): &(&str, Kind)| match kind {
        Kind::Text => Column::Text(Vec::new()),
        Kind::Int => Column::Int(Vec::new()),
        Kind::Bytes => Column::Bytes(Vec::new()),
        Kind::Uuid => Column::Uuid(Vec::new()),
    };
    let mut columns: Vec<Column> = batch.columns.iter().map(empty).collect();
    let width = columns.len();
    // The values lie row after row, and Postgres wants a column after the other.
    for (index, value) in batch.values.into_iter().enumerate() {
        match (&mut columns[index % width], value) {
            (Column::Text(values), Param::Text(value)) => values.push(value),
            (Column::Int(values), Param::Int(value)) => values.push(value),
            (Column::Bytes(values), Param::Bytes(value)) => values.push(value),
            (Column::Uuid(values), Param::Uuid(value)) => values.push(value),
            _ => {
                let (name, kind) = batch.columns[index % width];
                // The value itself may be a secret.
                let problem = format!("a value for the column {name} is not of the type {kind:?}");
                return Err(sqlx::Error::Encode(problem.into()));
            }
        }
    }
    Ok(columns)
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

    #[test]
    fn a_value_of_another_type_than_its_columns_is_refused() {
        let mut batch = Batch::new(&[("key", Kind::Uuid), ("round", Kind::Int)]);
        batch.push([Param::uuid(Uuid::nil()), Param::count(1)]);
        batch.push([Param::uuid(Uuid::nil()), Param::Int(None)]);
        assert_eq!(columns(batch).map(|columns| columns.len()).ok(), Some(2));

        let mut batch = Batch::new(&[("key", Kind::Uuid), ("round", Kind::Int)]);
        batch.push([Param::uuid(Uuid::nil()), Param::text("one")]);
        batch.push([Param::uuid(Uuid::nil()), Param::count(2)]);
        let error = columns(batch)
            .err()
            .map(|error| failed("-- a.query", error));
        assert!(
            matches!(&error, Some(StoreError::Refused { query, source })
                if query == "a.query" && source.to_string().contains("column round")),
            "{error:?}"
        );
        assert!(error.is_some_and(|error| !error.is_transient() && !error.is_about_data()));
    }
}
