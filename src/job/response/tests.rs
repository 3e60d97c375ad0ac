use serde_json::json;

use super::*;

fn parse(value: &serde_json::Value) -> Result<Job, String> {
    Job::parse(value.to_string().as_bytes())
}

#[test]
fn identity_comes_from_the_response() {
    let job = parse(&json!({
        "id": 11, "token": "secret",
        "job_info": {"name": "t", "project_id": 7, "project_name": "p", "project_jobs_running_on_instance_runners_count": "0"},
        "git_info": {"repo_url": "https://gitlab-ci-token:TOK@GitLab.example.com:8443/Group/p.git", "protected": true},
        "runner_info": {"timeout": 600},
        "image": {"name": "alpine:3.20", "entrypoint": null},
        "services": null, "variables": [{"key": "CI_JOB_ID", "value": "99"}],
    }))
    .expect("valid");
    assert_eq!((job.id, job.project_id, job.project_path.as_str()), (11, 7, "Group/p"));
    assert_eq!(
        (job.instance.as_str(), job.protected, job.timeout),
        ("gitlab.example.com:8443", true, Duration::from_secs(600))
    );
    assert_eq!((job.image.as_deref(), job.pipeline), (Some("alpine:3.20"), None));
}

#[test]
fn the_pipeline_is_known_unless_somebody_meddles() {
    let pipeline = |info: serde_json::Value, ids: &[&str]| {
        let variables: Vec<_> = ids.iter().map(|id| json!({"key": "CI_PIPELINE_ID", "value": id})).collect();
        parse(&json!({"id": 1, "job_info": info, "variables": variables})).expect("valid").pipeline
    };
    assert_eq!(pipeline(json!({"project_id": 7, "pipeline_id": 5}), &["6"]), Some(5));
    assert_eq!(pipeline(json!({"project_id": 7}), &["6", "6"]), Some(6));
    assert_eq!(pipeline(json!({"project_id": 7}), &["6", "7"]), None);
    assert_eq!(pipeline(json!({"project_id": 7}), &["-6"]), None);
}

#[test]
fn who_started_it_is_known_unless_somebody_meddles() {
    let user = |logins: &[&str]| {
        let variables: Vec<_> = logins.iter().map(|name| json!({"key": "GITLAB_USER_LOGIN", "value": name})).collect();
        let info = json!({"project_id": 7, "name": "test", "user_id": 3});
        parse(&json!({"id": 1, "job_info": info, "git_info": {"ref": "main"}, "variables": variables})).expect("valid")
    };
    let job = user(&["ada"]);
    assert_eq!((job.user.as_deref(), job.user_id), (Some("ada"), Some(3)));
    assert_eq!((job.name.as_deref(), job.reference.as_deref()), (Some("test"), Some("main")));
    assert_eq!((user(&["ada", "root"]).user, user(&[]).user), (None, None));
}

#[test]
fn a_minimal_response_is_enough() {
    let job =
        parse(&json!({"id": 1, "job_info": {"project_id": 7, "project_name": "p"}, "git_info": {"repo_url": ""}}))
            .expect("valid");
    assert_eq!((job.project_path.as_str(), job.instance.as_str(), job.timeout), ("p", "", DEFAULT_TIMEOUT));
}

#[test]
fn what_lacks_ids_is_refused_without_its_content() {
    for value in [
        json!({"job_info": {"project_id": 7}, "token": "s3cret"}),
        json!({"id": 0, "job_info": {"project_id": 7}}),
        json!({"id": 1}),
        json!({"id": 1, "job_info": {}}),
        json!({"id": "s3cret", "job_info": {"project_id": 7}}),
        json!(["s3cret"]),
    ] {
        let message = parse(&value).expect_err("must be refused");
        assert!(!message.contains("s3cret"), "{message}");
    }
    assert!(Job::parse(b"s3cret").expect_err("no JSON").contains("line 1"));
}

#[test]
fn an_entrypoint_of_one_empty_string_clears_the_images() {
    let mut job = parse(&json!({"id": 1, "job_info": {"project_id": 7}})).expect("valid");
    let image = ["/entry".to_owned()];
    assert_eq!(job.entrypoint(&image), image);
    job.entrypoint = Some(vec![]);
    assert_eq!(job.entrypoint(&image), image);
    job.entrypoint = Some(vec![String::new()]);
    assert!(job.entrypoint(&image).is_empty());
    job.entrypoint = Some(vec!["/mine".into(), "-x".into()]);
    assert_eq!(job.entrypoint(&image), ["/mine", "-x"]);
}

#[test]
fn services_come_with_all_that_they_say() {
    let job = parse(&json!({
        "id": 1, "job_info": {"project_id": 7},
        "image": {"name": "a", "pull_policy": ["always", "never"], "executor_opts": {"docker": {"user": 1000, "platform": "linux/arm64"}}},
        "services": [{"name": "r:5000/g/postgres:16", "alias": "db, database", "command": ["-c", "x"], "entrypoint": null,
            "variables": [{"key": "A", "value": "$B"}], "executor_opts": {"docker": {"user": "70:70"}}}, {"name": "redis"}],
    }))
    .expect("valid");
    assert_eq!((job.options.user.as_deref(), job.options.platform.as_deref()), (Some("1000"), Some("linux/arm64")));
    assert_eq!(job.options.pull_policy, ["always", "never"]);
    let [db, redis] = &job.services[..] else { panic!("{:?}", job.services) };
    assert_eq!(
        (db.image.as_str(), &db.aliases[..]),
        ("r:5000/g/postgres:16", &["db".to_owned(), "database".to_owned()][..])
    );
    assert_eq!(db.variables, [("A".to_owned(), "$B".to_owned())]);
    assert_eq!((db.options.user.as_deref(), redis.image.as_str()), (Some("70:70"), "redis"));
}

#[test]
fn names_hold_no_control_characters() {
    let job =
        parse(&json!({"id": 1, "job_info": {"project_id": 7, "project_full_path": "a\nb\u{1b}[31m"}})).expect("valid");
    assert_eq!(job.project_path, "ab[31m");
}
