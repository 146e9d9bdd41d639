//! `ipns list`.

use ipns_server::Failure;

use crate::backend::Backend;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings) -> Result<u8, Failure> {
    let backend = Backend::open(settings).await?;
    let kept = backend.list().await;
    backend.close(false).await;
    let kept = kept?;
    if settings.json {
        output::document(&kept)?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = kept
        .iter()
        .map(|name| {
            let until = if name.expired { format!("{} (expired)", name.validity) } else { name.validity.clone() };
            vec![
                name.key.clone().unwrap_or_else(|| "-".into()),
                name.name.clone(),
                name.value.clone(),
                name.sequence.to_string(),
                until,
                name.acks.to_string(),
                name.last_error.clone().unwrap_or_else(|| "-".into()),
            ]
        })
        .collect();
    output::line(output::table(&["KEY", "NAME", "VALUE", "SEQUENCE", "VALID UNTIL", "ACKS", "LAST ERROR"], &rows))?;
    Ok(0)
}
