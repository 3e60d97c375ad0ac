//! Databases of older releases, as they wrote them: frozen, so that no later release forgets how to read them.

use sqlx::SqliteConnection;
use sqlx::migrate::Migrator;

use super::*;

/// What the release of the first migration wrote for [`project`], an event, a start, an image and a setting.
const FIRST: &str = r#"
INSERT INTO project VALUES (1, 'images/app', 'https://gitlab.example.com/images/app', 'private', 'registry.example.com/images/app', 'main',
    '0123', 5, '["one"]', '["two","three"]', 1, 9, 'manual', 90, 7, 70, 8,
    '[{"upstream":{"project":1},"id":7,"at":70},{"upstream":{"image":"docker.io/library/debian:stable"},"id":7,"at":70}]',
    1, 9, 1, 8,
    '[{"upstream":{"project":1},"id":7,"at":70},{"upstream":{"image":"docker.io/library/debian:stable"},"id":7,"at":70}]',
    80, 'failed', 'no', 2, 'blocked', 60, 'blocked by 1', 3, 'f', 4, 'p');
INSERT INTO edge VALUES (1, '{"image":"docker.io/library/debian:stable"}', 1, 'nothing', NULL, NULL);
INSERT INTO edge VALUES (1, '{"project":1}', 0, 'success', 7, 70);
INSERT INTO edge VALUES (1, '{"project":2}', 0, 'unseen', NULL, NULL);
INSERT INTO file VALUES (1, 'Containerfile', 'FROM x
');
INSERT INTO image VALUES ('docker.io/library/debian:stable', 7, 70);
INSERT INTO event VALUES (1, 1000, 'key', 1, 'images/app', 9, 'success', 'main', 'push', NULL, NULL);
INSERT INTO start VALUES (1, 80, 1, 'images/app', 'images/base moved on', 'created pipeline 8', 8);
INSERT INTO setting VALUES ('paused', 'yes');
"#;

/// What the second one wrote besides.
const SECOND: &str = r"
INSERT INTO image_look VALUES ('docker.io/library/debian:stable', 500, 100, 300, 'down');
INSERT INTO image_digest VALUES (7, 'docker.io/library/debian:stable',
    'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
    'sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 0, 70, 100);
INSERT INTO built VALUES (1, 7, 'old', 'its base was another', 75);
";

/// And the third.
const THIRD: &str = "INSERT INTO news VALUES (1, 70, 1, 'images/app', 'registry.example.com/images/app', 7);";

/// Writes the database of the release whose last migration has this number.
async fn write(dir: &Path, release: usize) {
    let options = SqliteConnectOptions::new().filename(dir.join(FILE)).create_if_missing(true);
    let mut connection: SqliteConnection = options.connect().await.unwrap();
    let first = MIGRATOR.iter().take(release).cloned().collect();
    Migrator::with_migrations(first).run_direct(None, &mut connection, false).await.unwrap();
    for rows in [FIRST, SECOND, THIRD].into_iter().take(release) {
        sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn databases_of_all_older_releases_are_read_whole() {
    assert!(MIGRATOR.iter().count() >= 3);
    for release in 1..=3 {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), release).await;
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(store.projects().await.unwrap(), BTreeMap::from([(1, project())]), "release {release}");
        assert_eq!(store.images().await.unwrap()["docker.io/library/debian:stable"], Success { id: 7, at: 70 });
        assert_eq!(store.setting("paused").await.unwrap().as_deref(), Some("yes"));
        let open = store.open_events().await.unwrap();
        assert_eq!(open.iter().map(|row| (row.project, row.pipeline)).collect::<Vec<_>>(), [(1, 9)]);
        let starts = store.starts(None, 10).await.unwrap();
        assert_eq!(starts.iter().map(|row| (row.at, row.pipeline)).collect::<Vec<_>>(), [(80, Some(8))]);
        if release > 1 {
            let looks = store.looks().await.unwrap();
            let look = &looks["docker.io/library/debian:stable"];
            assert_eq!((look.next_at, look.failed_since, look.error.as_deref()), (500, Some(300), Some("down")));
            assert!(look.seen.is_some() && look.moves.since == 70);
            assert_eq!(store.built().await.unwrap()[&1].on_new, Some(false));
        }
        let news = store.news().await.unwrap();
        assert_eq!(news.len(), usize::from(release > 2), "{news:?}");
        // And goes on in it.
        store.save(&[(1, &project())]).await.unwrap();
        store.close().await;
    }
}
