-- A start is on record before GitLab is asked, and says for what it is made: so what followed from what is no question of two clocks, and a
-- start whose answer got lost is a start like any other. From here on `at` is by the host's clock, as that of an event is.

-- Whether nobody knows yet what came of it; at most one of a project.
ALTER TABLE start ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
-- The successes for which it was made, of all those that its pipeline gets: a JSON list like `project.started_inputs`; none: not known.
ALTER TABLE start ADD COLUMN causes TEXT;

CREATE INDEX start_project ON start (project, id);
CREATE INDEX start_pipeline ON start (pipeline) WHERE pipeline IS NOT NULL;

-- Of what was started last of each project, the inputs are on record, and the reason names those that count.
UPDATE start SET causes = (
    SELECT json_group_array(json(input.value))
    FROM project, json_each(project.started_inputs) AS input
    LEFT JOIN project AS upstream ON upstream.id = json_extract(input.value, '$.upstream.project')
    WHERE project.id = start.project
    AND instr(start.reason, coalesce(upstream.path, json_extract(input.value, '$.upstream.image'), ' ')) > 0
)
WHERE EXISTS (SELECT 1 FROM project WHERE project.id = start.project AND project.started_id = start.pipeline);
