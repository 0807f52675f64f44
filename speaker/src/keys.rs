//! The folder of keys, a mounted Secret: files named by the time from which a key seals
//! (`2026-11-29T00-50-00Z`), 32 bytes each. Read again and again, since it changes under us when keys
//! are rotated. What is in a file is never told to anybody.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use speaker_core::{KEY_LEN, Key, KeyRing};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

/// Between two looks. A new key seals only minutes after it has come, so nobody waits for this.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks while there is no key: the Secret may be about to be made.
const WAITING: Duration = Duration::from_secs(1);

/// What a look at the folder found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    keys: KeyRing,
    /// Why files are no keys.
    refused: Vec<String>,
}

/// Tells the keys whenever they have changed, for as long as somebody listens. An empty folder after
/// a full one changes nothing: with no key at all a speaker would leave its peers.
pub(crate) async fn follow(folder: PathBuf, told: watch::Sender<KeyRing>) {
    let mut said: Option<Result<Found, String>> = None;
    loop {
        let found = look(&folder).map_err(|error| error.to_string());
        if said.as_ref() != Some(&found) {
            say(&folder, &found);
        }
        if let Ok(Found { keys, .. }) = &found
            && !keys.is_empty()
        {
            told.send_if_modified(|last| {
                let changed = last != keys;
                last.clone_from(keys);
                changed
            });
        }
        said = Some(found);
        let pause = if told.borrow().is_empty() {
            WAITING
        } else {
            INTERVAL
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = told.closed() => return,
        }
    }
}

fn say(folder: &Path, found: &Result<Found, String>) {
    let folder = folder.display();
    match found {
        Ok(Found { keys, refused }) => {
            for why in refused {
                warn!(%folder, "not a key: {why}");
            }
            if keys.is_empty() {
                warn!(%folder, "no key yet: waiting for one before talking to any peer");
            } else {
                info!(%folder, ?keys, "keys");
            }
        }
        Err(error) => warn!(%folder, error, "the keys cannot be read: waiting for them"),
    }
}

/// Reads all keys. kubelet's own entries in a mounted Secret begin with two dots; others that begin
/// with a dot are nobody's key either.
fn look(folder: &Path) -> io::Result<Found> {
    let mut keys = Vec::new();
    let mut refused = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        match key(&folder.join(&*name), &name) {
            Ok(key) => keys.push(key),
            Err(why) => refused.push(format!("{name}: {why}")),
        }
    }
    refused.sort_unstable();
    Ok(Found {
        keys: KeyRing::new(keys),
        refused,
    })
}

fn key(path: &Path, name: &str) -> Result<Key, String> {
    let from = time(name).ok_or("the name is no time like 2026-11-29T00-50-00Z")?;
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let length = bytes.len();
    let secret = <[u8; KEY_LEN]>::try_from(bytes)
        .map_err(|_| format!("{length} bytes where {KEY_LEN} are needed"))?;
    Ok(Key::new(from, secret))
}

/// The time in a file's name, in Unix seconds.
fn time(name: &str) -> Option<i64> {
    let time = DateTime::strptime("%Y-%m-%dT%H-%M-%SZ", name).ok()?;
    let time: Timestamp = TimeZone::UTC.to_timestamp(time).ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "test code: a broken assumption must end the test"
    )]

    use std::os::unix::fs::symlink;

    use super::*;

    const SECOND: i64 = 1_795_913_400; // 2026-11-29T00:50:00Z

    /// As kubelet mounts a Secret: files are links into a folder, which is a link itself.
    fn mount(folder: &Path, version: &str, files: &[(&str, &[u8])]) {
        let data = folder.join(version);
        fs::create_dir(&data).unwrap();
        for (name, bytes) in files {
            fs::write(data.join(name), bytes).unwrap();
            let link = folder.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }

    #[test]
    fn a_mounted_secret_is_read_and_read_anew_when_it_is_swapped() {
        let folder = tempfile::tempdir().unwrap();
        let first: (&str, &[u8]) = ("2026-11-29T00-50-00Z", &[1; 32]);
        let second: (&str, &[u8]) = ("2026-11-29T01-50-00Z", &[2; 32]);
        mount(folder.path(), "..1", &[first]);
        let one = KeyRing::new(vec![Key::new(SECOND, [1; 32])]);
        assert_eq!(look(folder.path()).unwrap().keys, one);
        mount(folder.path(), "..2", &[first, second]);
        let both = KeyRing::new(vec![
            Key::new(SECOND + 3600, [2; 32]),
            Key::new(SECOND, [1; 32]),
        ]);
        let found = look(folder.path()).unwrap();
        assert_eq!(found.keys, both);
        assert_eq!(found.refused, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_key_is_refused_by_name_and_the_others_count() {
        let folder = tempfile::tempdir().unwrap();
        for (name, length) in [
            ("2026-11-29T00-50-00Z", 32),
            ("2026-11-29T00-51-00Z", 31),
            ("README", 32),
            (".hidden", 32),
        ] {
            fs::write(folder.path().join(name), vec![7; length]).unwrap();
        }
        let found = look(folder.path()).unwrap();
        assert_eq!(found.keys, KeyRing::new(vec![Key::new(SECOND, [7; 32])]));
        assert_eq!(
            found.refused,
            [
                "2026-11-29T00-51-00Z: 31 bytes where 32 are needed",
                "README: the name is no time like 2026-11-29T00-50-00Z",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn keys_come_when_the_folder_does_and_stay_when_it_is_emptied() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("keys");
        let (told, mut keys) = watch::channel(KeyRing::default());
        let following = tokio::spawn(follow(folder.clone(), told));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(keys.borrow().is_empty());
        fs::create_dir(&folder).unwrap();
        let file = folder.join("2026-11-29T00-50-00Z");
        fs::write(&file, [1; 32]).unwrap();
        keys.changed().await.unwrap();
        let one = KeyRing::new(vec![Key::new(SECOND, [1; 32])]);
        assert_eq!(*keys.borrow_and_update(), one);
        fs::remove_file(&file).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!keys.has_changed().unwrap());
        drop(keys);
        following.await.unwrap();
    }
}
