-- State of the service. Times are seconds since the epoch; uuids are canonical lower-case text.

CREATE TABLE IF NOT EXISTS endpoints (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('manager', 'single', 'user')),
    owner TEXT NOT NULL,              -- identity uuid; of a user endpoint: the user's
    parent TEXT REFERENCES endpoints (id) ON DELETE CASCADE,  -- the manager endpoint of a user endpoint
    registration TEXT NOT NULL,       -- JSON: what was registered; of a user endpoint: its user_endpoint_config
    password TEXT NOT NULL,           -- of its RabbitMQ user
    created REAL NOT NULL,
    locked_until REAL NOT NULL DEFAULT 0,
    last_report REAL,                 -- when the last status report came
    heartbeat_period REAL NOT NULL DEFAULT 0,  -- 0: it said that it goes, or it failed to start
    report TEXT NOT NULL DEFAULT '{}' -- JSON: global_state of that report
) STRICT;

CREATE INDEX IF NOT EXISTS endpoints_by_parent ON endpoints (parent);
CREATE INDEX IF NOT EXISTS endpoints_by_owner ON endpoints (owner);

CREATE TABLE IF NOT EXISTS functions (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    registration TEXT NOT NULL,       -- JSON: what was registered, without the code
    code TEXT NOT NULL,               -- one packed buffer, ready to be put before the arguments'
    created REAL NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS task_groups (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    created REAL NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY,
    group_id TEXT NOT NULL REFERENCES task_groups (id),
    owner TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,        -- the endpoint that runs it; kept when the endpoint is deleted
    function_id TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'waiting-for-ep' CHECK (status IN ('waiting-for-ep', 'success', 'failed')),
    submitted REAL NOT NULL,
    completed REAL,
    result BLOB,                      -- the packed Result message
    forwarded INTEGER NOT NULL DEFAULT 0  -- 1: offered to the SDK's result queue
) STRICT;

CREATE INDEX IF NOT EXISTS tasks_by_group ON tasks (group_id);
CREATE INDEX IF NOT EXISTS tasks_by_owner ON tasks (owner, submitted);
CREATE INDEX IF NOT EXISTS tasks_outstanding ON tasks (endpoint_id) WHERE status = 'waiting-for-ep';
CREATE INDEX IF NOT EXISTS tasks_unforwarded ON tasks (id) WHERE status <> 'waiting-for-ep' AND forwarded = 0;

CREATE TABLE IF NOT EXISTS result_logins (
    name TEXT PRIMARY KEY,            -- of the RabbitMQ user
    owner TEXT NOT NULL,              -- identity uuid of the SDK user
    credential TEXT NOT NULL,         -- digest of the token or secret that it was given for
    password TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS tokens (
    digest TEXT PRIMARY KEY,          -- SHA-256 of the token: the table gives no token away
    credential TEXT NOT NULL,         -- digest of the client's secret: the token ends with it
    resource_server TEXT NOT NULL,
    expires REAL NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS tokens_by_hand (
    digest TEXT PRIMARY KEY,          -- SHA-256 of a token that somebody wrote into the users file as it is
    first_seen REAL NOT NULL
) STRICT;
