//! The migrations, in the program. Listed by hand and not read by `sqlx::migrate!`: its macro
//! compiles both database drivers a second time, for the compiler's own use, which is a tenth of a
//! first build. A test compares the list with the folders.

use std::sync::LazyLock;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

/// The files of a folder of `migrations/`, each with its text.
macro_rules! files {
    ($folder:literal: $($name:literal,)*) => {
        &[$((
            $name,
            include_str!(concat!("../../../../migrations/", $folder, "/", $name, ".sql")),
        ),)*]
    };
}

/// Those of SQLite.
pub(super) static SQLITE: LazyLock<Migrator> = LazyLock::new(|| {
    migrator(files! { "sqlite":
        "0001_initial",
        "0002_provider_date_and_console",
        "0003_oldest_program",
        "0004_jobs",
        "0005_id_conflicts",
        "0006_kept",
        "0009_endpoint_uid",
        "0010_notification_list",
        "0011_master_key",
        "0012_key_expiry_and_hops",
        "0013_agreement_of_workers",
        "0014_console",
        "0015_fewer_index_entries",
        "0016_first_attempt",
        "0017_stats",
        "0018_audit",
    })
});

/// Those of Postgres.
pub(super) static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| {
    migrator(files! { "postgres":
        "0001_initial",
        "0002_provider_date_and_console",
        "0003_attempt_partitions",
        "0004_jobs",
        "0005_id_conflicts",
        "0006_kept",
        "0009_endpoint_uid",
        "0010_notification_list",
        "0011_master_key",
        "0012_key_expiry_and_hops",
        "0013_agreement_of_workers",
        "0014_console",
        "0015_fewer_index_entries",
        "0016_first_attempt",
        "0017_stats",
        "0018_audit",
    })
});

fn migrator(files: &[(&str, &'static str)]) -> Migrator {
    // As sqlx reads a folder: databases hold these names and checksums.
    let migrations = files.iter().filter_map(|(name, text)| {
        let (version, description) = name.split_once('_')?;
        Some(Migration::new(
            version.parse().ok()?,
            description.replace('_', " ").into(),
            MigrationType::Simple,
            AssertSqlSafe(*text).into_sql_str(),
            text.starts_with("-- no-transaction"),
        ))
    });
    Migrator::with_migrations(migrations.collect())
}

/// The newest version of the schema that is known.
pub(super) fn newest(migrator: &Migrator) -> i64 {
    let versions = migrator.iter().map(|migration| migration.version);
    versions.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[tokio::test]
    async fn the_program_has_the_migrations_of_the_folders() {
        for (folder, listed) in [("sqlite", &SQLITE), ("postgres", &POSTGRES)] {
            let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "migrations", folder]
                .iter()
                .collect();
            let there = Migrator::new(path).await.unwrap();
            let facts = |migrator: &Migrator| -> Vec<_> {
                migrator
                    .iter()
                    .map(|one| {
                        (
                            one.version,
                            one.description.to_string(),
                            one.checksum.to_vec(),
                            one.no_tx,
                        )
                    })
                    .collect()
            };
            assert_eq!(facts(listed), facts(&there), "migrations/{folder}");
        }
    }
}
