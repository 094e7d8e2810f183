"""A local Compute service for sites that run their own; each folder imports only what stands below it here.

`serve` starts and ends the parts.

- `http_server`: where it listens, its connections and certificate, and which call is served by what
- `rest`, `page`: the calls of programs, and the page for browsers; neither knows the other
- `tasks`: a task's way to an endpoint, and its result's way back
- `request`: one HTTP request: its body, who is calling, and what that caller may see
- `rabbitmq`: the private node, what the service sets up in it, and the connection for messages
- `state`: what must survive a restart
- `users`: the users file, and those whom it lets in
- `limits`: how much one caller may take

`context` has the parts that a request may need: what is above `rabbitmq` uses it. `users_watcher` follows the users
file beside them. `errors` are everybody's.
"""
