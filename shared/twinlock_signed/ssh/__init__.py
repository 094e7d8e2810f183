"""A person's SSH key: signatures by `ssh-keygen -Y`, in OpenSSH's format (PROTOCOL.sshsig), and whose keys count."""
