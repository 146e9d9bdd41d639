//! `ipns store`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ipns_server::{AdminClient, Failure, exit};
use ipns_store::{AnyStore, Backend, ImportError, Report};
use serde_json::json;

use crate::args::StoreCommand;
use crate::settings::Settings;
use crate::{output, store};

pub(crate) async fn run(settings: &Settings, command: StoreCommand) -> Result<u8, Failure> {
    if AdminClient::discover(&settings.home).await?.is_some() {
        let message = "a daemon has the store of this home; stop it first";
        return Err(Failure::new(exit::STORE, "store_in_use", message));
    }
    match command {
        StoreCommand::Check => check(settings).await,
        StoreCommand::Compact => compact(settings).await,
        StoreCommand::Export { file } => export(settings, file).await,
        StoreCommand::Import { file, force } => import(settings, file, force).await,
        StoreCommand::Migrate { to } => migrate(settings, to).await,
    }
}

async fn check(settings: &Settings) -> Result<u8, Failure> {
    let (backend, path) = existing(settings)?;
    let bar = progress("checked");
    let (of, ticks) = (path.clone(), bar.clone());
    let checked = store::blocking(move || Ok(ipns_store::check(backend, &of, || ticks.inc(1))?)).await;
    bar.finish_and_clear();
    let report = checked?;
    if settings.json {
        output::document(&report_json(backend, &path, &report))?;
    } else {
        output::line(format!("{backend}, schema {}: {}", report.schema_version, path.display()))?;
        let rows: Vec<Vec<String>> = report
            .tables
            .iter()
            .map(|found| vec![found.table.as_str().into(), found.entries.to_string(), found.bytes.to_string()])
            .collect();
        output::line(output::table(&["TABLE", "ENTRIES", "BYTES"], &rows))?;
        for problem in &report.problems {
            let key = data_encoding::HEXLOWER.encode(&problem.key);
            output::line(format!("damaged: {} {key}: {}", problem.table.as_str(), problem.reason))?;
        }
    }
    Ok(if report.problems.is_empty() { 0 } else { exit::STORE })
}

fn report_json(backend: Backend, path: &Path, report: &Report) -> serde_json::Value {
    let tables = report
        .tables
        .iter()
        .map(|found| json!({ "table": found.table.as_str(), "entries": found.entries, "bytes": found.bytes }));
    let problems = report.problems.iter().map(|problem| {
        let key = data_encoding::HEXLOWER.encode(&problem.key);
        json!({ "table": problem.table.as_str(), "key": key, "reason": problem.reason })
    });
    json!({
        "ok": report.problems.is_empty(),
        "store": backend.as_str(),
        "path": path,
        "schema": report.schema_version,
        "tables": tables.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
    })
}

async fn compact(settings: &Settings) -> Result<u8, Failure> {
    let (backend, path) = existing(settings)?;
    let (before, of) = (bytes(&path), path.clone());
    store::blocking(move || Ok(backend.open(of)?.compact()?)).await?;
    let after = bytes(&path);
    if settings.json {
        output::document(&json!({ "store": backend.as_str(), "path": path, "before": before, "after": after }))?;
    } else {
        output::line(format!("{}: {before} bytes, now {after}", path.display()))?;
    }
    Ok(0)
}

/// How much a file, or the files of a folder, take.
fn bytes(path: &Path) -> u64 {
    let Ok(found) = path.metadata() else { return 0 };
    match path.read_dir() {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum(),
        Err(_) => found.len(),
    }
}

async fn export(settings: &Settings, file: PathBuf) -> Result<u8, Failure> {
    let (backend, path) = existing(settings)?;
    let bar = progress("exported");
    let (to, ticks) = (file.clone(), bar.clone());
    let exported = store::blocking(move || Ok(ipns_store::export(backend, &path, &to, || ticks.inc(1))?)).await;
    bar.finish_and_clear();
    let entries = exported?;
    if settings.json {
        output::document(&json!({ "store": backend.as_str(), "file": file, "entries": entries }))?;
    } else {
        output::line(format!("{entries} entries in {}", file.display()))?;
    }
    Ok(0)
}

async fn import(settings: &Settings, file: PathBuf, force: bool) -> Result<u8, Failure> {
    let backend = on_a_disk(store::choose(settings)?)?;
    crate::backend::create_home(&settings.home)?;
    let mut store: AnyStore = store::open(settings).await?;
    let bar = progress("imported");
    let ticks = bar.clone();
    let imported = store::blocking(move || {
        ipns_store::import(&mut store, &file, force, || ticks.inc(1)).map_err(|error| match error {
            ImportError::Store(error) => error.into(),
            newer => Failure::new(
                exit::CONFLICT,
                newer.code(),
                format!("{newer}; nothing was imported, --force does it all the same"),
            ),
        })
    })
    .await;
    bar.finish_and_clear();
    let imported = imported?;
    if settings.json {
        output::document(&json!({ "store": backend.as_str(), "taken": imported.taken, "kept": imported.kept }))?;
    } else {
        output::line(format!("{} entries taken, {} were there already", imported.taken, imported.kept))?;
    }
    Ok(0)
}

async fn migrate(settings: &Settings, to: Backend) -> Result<u8, Failure> {
    on_a_disk(to)?;
    store::built_in(to)?;
    let present = store::present(settings);
    let is_there = present.contains(&to);
    let from = match present.iter().find(|kind| **kind != to) {
        Some(other) => *other,
        None if is_there => {
            let message = format!("the store is of kind {to} already");
            return Err(Failure::new(exit::USAGE, "store_same_kind", message));
        }
        None => return Err(nothing(settings)),
    };
    store::built_in(from)?;
    let bar = progress(if is_there { "compared" } else { "copied" });
    let (home, ticks) = (settings.home.clone(), bar.clone());
    let migrated = store::blocking(move || {
        let tick = || ticks.inc(1);
        Ok(match is_there {
            true => ipns_store::finish_migration(&home, from, to, tick)?,
            false => Some(ipns_store::migrate(&home, from, to, tick)?),
        })
    })
    .await;
    bar.finish_and_clear();
    let migrated = migrated?.ok_or_else(|| two(settings))?;
    if settings.json {
        output::document(&json!({
            "from": from.as_str(), "to": to.as_str(), "path": migrated.path, "old": migrated.old,
            "entries": migrated.entries,
        }))?;
    } else {
        output::line(format!("{} entries in {}", migrated.entries, migrated.path.display()))?;
        output::line(format!("the old store is {}; never use it again", migrated.old.display()))?;
    }
    if settings.file.store.is_some_and(|asked| asked != to) {
        tracing::warn!("the settings ask for another kind of store; write store = \"{to}\" there");
    }
    Ok(0)
}

/// The store that this home has.
fn existing(settings: &Settings) -> Result<(Backend, PathBuf), Failure> {
    let backend = on_a_disk(store::choose(settings)?)?;
    match store::place(settings, backend) {
        Some(path) if store::present(settings).contains(&backend) => Ok((backend, path)),
        _ => Err(nothing(settings)),
    }
}

fn on_a_disk(backend: Backend) -> Result<Backend, Failure> {
    match backend {
        Backend::Memory => {
            Err(Failure::new(exit::USAGE, "store_in_memory", "a store in memory is gone with the command that has it"))
        }
        other => Ok(other),
    }
}

fn nothing(settings: &Settings) -> Failure {
    let message = format!("{} has no store yet; publishing makes one", settings.home.display());
    Failure::new(exit::STORE, "store_missing", message)
}

fn two(settings: &Settings) -> Failure {
    let message = format!(
        "{} has stores of two kinds with different contents; move away the one that is older",
        settings.home.display()
    );
    Failure::new(exit::STORE, "store_ambiguous", message)
}

/// Counts entries on a terminal.
fn progress(done: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(format!("entries {done}"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
