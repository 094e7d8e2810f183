# The front door: `make demo`, `make test`, `make lint`, `make install`.

ROOT := $(filter 0,$(shell id -u))
PREFIX ?= $(if $(ROOT),/opt/twinlock,$(HOME)/.local/share/twinlock)
SLURM ?=
ARGS ?=

BUILD_PACKAGES := python3-venv python3-dev gcc libcap-dev
SITE_PACKAGES := rabbitmq-server
SLURM_PACKAGES := slurmctld slurmd slurm-client munge
PEER_VERSION := 4.19.0

CODE := shared/twinlock_shared spawner/twinlock_spawner broker/twinlock_broker endpoint/twinlock_endpoint \
        service/twinlock_service testbed/twinlock_testbed

.PHONY: help install demo test lint
.SILENT:

help:
	echo 'make install   install the programs into PREFIX/bin (PREFIX=$(PREFIX))'
	echo 'make demo      run a whole site with two users on this machine, then remove it; SLURM=1: on a private Slurm'
	echo 'make test      run every test; ARGS="-k NAME" chooses some'
	echo 'make lint      ruff and mypy --strict'

install:
	packaging/debian-packages $(BUILD_PACKAGES)
	packaging/install '$(PREFIX)' all

demo: export PYTHONPATH = testbed
demo:
	packaging/debian-packages $(BUILD_PACKAGES) $(SITE_PACKAGES) $(if $(SLURM),$(SLURM_PACKAGES))
	packaging/install '$(PREFIX)' all,testbed
	exec '$(PREFIX)/bin/python' -m twinlock_testbed --prefix '$(PREFIX)' $(if $(SLURM),--slurm)

test: lint
	packaging/debian-packages $(SITE_PACKAGES) $(SLURM_PACKAGES)
	packaging/peer '$(PREFIX)/peer' $(PEER_VERSION)
	TWINLOCK_PREFIX='$(PREFIX)' tests/run $(ARGS)

lint:
	packaging/debian-packages $(BUILD_PACKAGES)
	packaging/install '$(PREFIX)' all,testbed,dev
	'$(PREFIX)/bin/ruff' format --check --quiet .
	'$(PREFIX)/bin/ruff' check --quiet .
	'$(PREFIX)/bin/mypy' $(CODE) tests
