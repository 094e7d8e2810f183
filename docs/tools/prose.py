"""What manual pages say beyond the programs' own help and tables. "`term`: text" is an item, indented lines stay."""

FOR_USERS = "twinlock-client"
"""The program on users' own computers."""

ONE_LINE = {
    "twinlock": "set up, check and inspect a Twinlock manager endpoint",
    "twinlock-spawner": "start user endpoints as their users",
    "twinlock-broker": "serve a manager endpoint of Globus Compute without privileges",
    "twinlock-console": "web page with the state of a manager endpoint",
    "twinlock-endpoint": "run a user's tasks",
    "twinlock-service": "local Compute service",
    "twinlock-client": "sign work for Globus Compute, and verify its results",
    "twinlock-spawner.toml": "policy of twinlock-spawner",
    "twinlock-broker.yaml": "settings of twinlock-broker and of a manager endpoint",
}

SEE_ALSO = {
    "twinlock": ["twinlock-broker(8)", "twinlock-spawner(8)", "twinlock-broker.yaml(5)", "twinlock-spawner.toml(5)"],
    "twinlock-spawner": ["twinlock-spawner.toml(5)", "twinlock-broker(8)", "twinlock-endpoint(8)", "pam(8)"],
    "twinlock-broker": ["twinlock(8)", "twinlock-broker.yaml(5)", "twinlock-spawner(8)", "systemd.exec(5)"],
    "twinlock-console": ["twinlock-broker(8)", "twinlock-broker.yaml(5)", "twinlock-top(8)", "apache2(8)", "nginx(8)"],
    "twinlock-endpoint": ["twinlock-spawner(8)", "twinlock-broker(8)"],
    "twinlock-service": ["twinlock-broker(8)", "rabbitmq-server(8)"],
    "twinlock-client": ["ssh-keygen(1)", "ssh-agent(1)", "ssh(1)"],
    "twinlock-spawner.toml": ["twinlock-spawner(8)", "setrlimit(2)", "cgroups(7)", "pam(8)"],
    "twinlock-broker.yaml": ["twinlock-broker(8)", "twinlock(8)", "twinlock-spawner.toml(5)"],
}

DESCRIPTION = {
    "twinlock-broker": """\
The half of a Twinlock manager endpoint that talks to the network. It registers with the Compute service, maps
identities, renders the template, and asks the spawner to start user endpoints. It never runs a task, and refuses to
run as root or with capabilities.

It registers as the client in the systemd credentials client_id and client_secret, else in the environment's
GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET, else as the person who ran `twinlock login`.

When it is registered, connected to the spawner and ready for commands, it says so in one line on standard output, and
tells systemd. Its log goes to standard error, one event per line. User endpoints survive it: the next broker takes
them over.
""",
    "twinlock-spawner": """\
The half of a Twinlock manager endpoint that runs as root. The broker asks it, over one Unix socket, to start a program
that its policy names, as a user whom the policy allows. The spawner forks, becomes the user, executes the program, and
reports its end. It reads nothing but its policy and that socket.

When a user endpoint ends, nothing that it started on this host stays alive. When the spawner ends, all its
endpoints end too.

Without root it serves only its own account.
""",
    "twinlock-console": """\
A web page with endpoints, starts and failures of a manager endpoint, live: administrators see everybody's, users
their own. It is read-only: nobody can stop or block anything with it.

It stands behind the site's own web server, which has people log in and names their account on this host in a header,
whatever the browser has sent under that name. The manual, docs/console.md, has the configurations of Apache and nginx.

The broker answers the accounts that its key `readers` names, on the socket readers.sock. It is asked every two seconds
while anybody looks, and otherwise every ten. What the page remembers for its plots is in memory only.

When it listens, it says so in one line on standard output, and tells systemd. Its log goes to standard error.
""",
    "twinlock-endpoint": """\
A user endpoint: it takes one user's tasks from the Compute service, runs them on Parsl, and sends the
results. It runs as the user. It isn't meant for the command line: twinlock-spawner(8) starts it, with a start document
on its standard input that contains its configuration and its credentials.

The configuration is the administrator's template, rendered with the user's options. It is YAML with the keys
below. An unknown key is an error.

With `--agent PROGRAM`, the absolute path of a globus-compute-endpoint, it sets the site's environment variables,
creates the folder that the program needs, and becomes that program's user endpoint.

With `--verified FILE`, the absolute path of the administrator's file for signed work, it takes only the queues from the
start document, and runs only what the user has signed.

With `--check` it starts nothing and reports whether its loader accepts configurations, after `--verified FILE` in that
mode. `twinlock check` uses this.
""",
    "twinlock-client": """\
What users do about signed work besides submitting it. At an endpoint in Twinlock's verified mode, only they can have
code run as their account, and a result can't run code on their computer.

Programs submit with `SignedExecutor` of the Python package twinlock_client, in the place of globus-compute-sdk's
`Executor`. The user's SSH key signs a delegation for each session; the session's own key signs its tasks.

`USER` is the account and the name of the site, such as ada@cluster.example.org. `ENDPOINT` is the uuid of the site's
verified endpoint. Both are told by the site.

It needs ssh-keygen(1) of OpenSSH 8.9 or later.
""",
    "twinlock-spawner.toml": """\
The policy of twinlock-spawner(8), /etc/twinlock/spawner.toml, in TOML. It must belong to root, and neither it nor
any folder above it may be writable by others. The same holds for its programs, their interpreters, and the folders
of the socket and of the audit log. `twinlock-spawner --check` says whether it is valid, and warns of settings that are
probably not intended. A running spawner reads it again on SIGHUP; an invalid policy changes nothing.
""",
    "twinlock-broker.yaml": """\
Two YAML files. The broker's own, /etc/twinlock/broker.yaml, is named by `twinlock-broker --config`; options of the
command line take precedence. The manager endpoint's, config.yaml in the endpoint folder, has the keys of
globus-compute-endpoint's manager. An unknown key is an error that names the nearest known one. Both are read when the
broker starts.
""",
}

SECTIONS = {
    "twinlock-spawner": {
        "SIGNALS": """\
`SIGHUP`: reload in place, with the installed version and the current policy. Endpoints aren't affected. If the new
policy or version is wrong, nothing changes, and the audit log says why.
`SIGTERM, SIGINT`: stop all endpoints, with TERM and after stop_grace with KILL, then end.
""",
        "FILES": """\
`/etc/twinlock/spawner.toml`: the policy
`/run/twinlock/spawner.sock`: where the broker connects
`/run/twinlock/spawner.sock.lock`: locked while a spawner or its keeper runs, so there is one spawner at a time
`/var/log/twinlock/audit.log`: one line of JSON for each request, decision, start and end
""",
    },
    "twinlock-broker": {
        "SIGNALS": """\
`SIGTERM, SIGINT`: accept no more commands, tell the service, and end. User endpoints continue.
""",
        "FILES": """\
`/etc/twinlock/broker.yaml`: its own settings
`/etc/twinlock/endpoint`: the endpoint folder
`/etc/twinlock/client/id, secret`: the client as which it registers; systemd passes them as credentials
`/var/lib/twinlock`: its state: the endpoint's uuid, a login's tokens, blocked accounts, user endpoints
`/var/lib/twinlock/broker.lock`: locked while a broker runs, so there is one broker for each state folder
`/run/twinlock-broker/admin.sock`: where twinlock(8) connects
""",
    },
    "twinlock-console": {
        "FILES": """\
`/etc/twinlock/console.yaml`: its settings
`/run/twinlock-console/console.sock`: where the web server connects
`/run/twinlock-broker/readers.sock`: where the broker answers
""",
    },
    "twinlock-endpoint": {
        "FILES": """\
`~/.globus_compute/uep.MANAGER.ENDPOINT/`: the endpoint's folder, closed to others
`endpoint.log`: its log; rotated at 10 MiB
`tasks.log`: a line for each task that has ended; rotated at 10 MiB
`tasks_working_dir`: where tasks run
""",
        "EXIT STATUS": """\
`0`: idle, or stopped as asked
`65`: the start document is invalid
`69`: the engine didn't start, or failed
`70`: an unexpected error
`73`: its folder or log can't be created
`78`: the configuration can't be used
`100`: started by hand
""",
    },
    "twinlock-client": {
        "ENVIRONMENT": """\
`SSH_AUTH_SOCK`: where the SSH agent listens, which is asked if no `--key` is given
""",
        "FILES": """\
`~/.config/twinlock-client/enrolled`: the keys that sign the results of the user's accounts
`~/.local/state/twinlock-client/delegations`: the delegations that this computer has made
`~/.local/state/twinlock-client/tasks/`: the tasks that it has submitted

None of these is secret. A file made by `twinlock-client delegate` is secret: it has a session key.
""",
    },
    "twinlock-spawner.toml": {
        "EXAMPLE": """\
  broker_user = "twinlock"
  allow_groups = ["compute"]
  max_children_per_user = 5

  [environment]
  PATH = "/usr/local/bin:/usr/bin:/bin"

  [programs]
  endpoint = ["/usr/bin/twinlock-endpoint"]
""",
    },
    "twinlock-broker.yaml": {
        "EXAMPLE": """\
  endpoint_dir: /etc/twinlock/endpoint
  metrics: 127.0.0.1:9464
""",
    },
}
