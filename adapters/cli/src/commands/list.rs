//! `ipns list`.

use std::io::Write;

use futures_util::{StreamExt, TryStreamExt};
use ipns_server::Failure;
use ipns_server::kept::KeptReport;

use crate::backend::Backend;
use crate::output;
use crate::settings::Settings;

const HEADER: [&str; 11] =
    ["KEY", "NAME", "KIND", "VALUE", "SEQUENCE", "VALID UNTIL", "LAST SENT", "ACKS", "NEXT", "FAILURES", "LAST ERROR"];

/// Of so many rows at once the columns are made as wide as they have to be, and so many are written at once.
const ROWS: usize = 1000;

pub(crate) async fn run(settings: &Settings) -> Result<u8, Failure> {
    let backend = Backend::open(&settings.offline()).await?;
    let listed = list(settings, &backend).await;
    backend.close(false).await;
    listed.map(|()| 0)
}

async fn list(settings: &Settings, backend: &Backend) -> Result<(), Failure> {
    let mut chunks = backend.list().await?.try_chunks(ROWS);
    if settings.json {
        let mut array = output::Array::default();
        while let Some(kept) = chunks.next().await {
            array.extend(&kept.map_err(|broken| broken.1)?)?;
        }
        return array.end();
    }
    let mut columns = None;
    while let Some(kept) = chunks.next().await {
        let rows: Vec<_> = kept.map_err(|broken| broken.1)?.iter().map(row).collect();
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let columns = columns.insert(output::Columns::fit(&HEADER, &rows));
                output::line(columns.line(HEADER))?;
                columns
            }
        };
        let lines: Vec<String> = rows.iter().map(|row| columns.line(row.iter().map(String::as_str))).collect();
        output::line(lines.join("\n"))?;
    }
    if columns.is_none() {
        let _ = writeln!(std::io::stderr(), "no name yet; publish one, or follow one with `ipns follow NAME`");
    }
    Ok(())
}

fn row(kept: &KeptReport) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let time = |text: &Option<String>| or_none(text.as_deref().map(to_seconds));
    let until = time(&kept.validity);
    vec![
        or_none(kept.key.clone()),
        kept.name.clone(),
        kept.kind.as_str().into(),
        or_none(kept.value.clone()),
        or_none(kept.sequence.map(|sequence| sequence.to_string())),
        if kept.expired { format!("{until} (expired)") } else { until },
        time(&kept.last_sent),
        kept.acks.to_string(),
        time(&kept.next),
        kept.failures.to_string(),
        or_none(kept.last_error.clone()),
    ]
}

/// A time without the fraction of a second, which is of use to programs only.
fn to_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, fraction)) => seconds.to_owned() + fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_people_have_no_fractions() {
        assert_eq!(to_seconds("2026-11-24T01:02:03.000000004Z"), "2026-11-24T01:02:03Z");
        assert_eq!(to_seconds("2026-11-24T01:02:03Z"), "2026-11-24T01:02:03Z");
    }
}
