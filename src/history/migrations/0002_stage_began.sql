-- By when stages began, with all that a page of the last days says of them: it reads these rows alone, and not all that are remembered.
CREATE INDEX stage_began ON stage (began, name, ms);
