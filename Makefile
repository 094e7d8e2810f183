# The front door: `make demo`, `make test`, `make thorough`, `make deep`, `make pythons`, `make parsl-next`, `make mutants`,
# `make lint`, `make fuzz`, `make bench`, `make install`, `make deb`, `make system-test`.

ROOT := $(filter 0,$(shell id -u))
PREFIX ?= $(if $(ROOT),/opt/twinlock,$(HOME)/.local/share/twinlock)
SLURM ?=
VERIFIED ?=
ARGS ?=
THOROUGH ?=
FUZZ_SECONDS ?= 120
SOAK_MINUTES ?= 60
SOAK_SEED ?= $(shell date +%s)

# The supported versions of Python. Those that this machine lacks are skipped, unless the user has named them in PYTHONS.
PYTHONS ?= $(shell sed -n 's/.*"Programming Language :: Python :: \(.*\)".*/\1/p' pyproject.toml)
SKIP_MISSING := $(if $(filter file,$(origin PYTHONS)),--skip-missing)

# The release of Debian, by its codename, that packages are made for and tested on: this machine's or, as root, another one.
THIS_DEBIAN := $(shell . /etc/os-release && echo $$VERSION_CODENAME)
DEBIAN ?= $(THIS_DEBIAN)
SUPPORTED_DEBIANS := bookworm trixie
OTHER_DEBIAN := $(filter-out $(THIS_DEBIAN),$(DEBIAN))
DEBS = build$(OTHER_DEBIAN:%=/%)/deb
TREE = $(PREFIX)/debian-tree$(OTHER_DEBIAN:%=-%)
export TWINLOCK_DEBIAN = $(OTHER_DEBIAN)

BUILD_PACKAGES := python3-venv python3-dev gcc libcap-dev
SITE_PACKAGES := rabbitmq-server
VERIFIED_PACKAGES := openssh-client
SLURM_PACKAGES := slurmctld slurmd slurm-client munge
TEST_PACKAGES := strace iproute2 patch tmux prometheus chromium nginx apache2
DEB_PACKAGES := build-essential debhelper dh-python dpkg-dev
CONTAINER_PACKAGES := debootstrap systemd-container dpkg-dev
# What a container's Debian has, and the one in which packages for another release are built.
TREE_PACKAGES := systemd systemd-sysv dbus logrotate bash-completion python3 python3-msgpack python3-prctl rabbitmq-server
BUILD_TREE_PACKAGES := $(BUILD_PACKAGES) $(DEB_PACKAGES) ca-certificates
PEER_VERSION := 4.19.0

CODE := shared/twinlock_wire shared/twinlock_common shared/twinlock_signed spawner/twinlock_spawner broker/twinlock_broker \
        endpoint/twinlock_endpoint service/twinlock_service client/twinlock_client testbed/twinlock_testbed benchmarks \
        docs/tools packaging/monitoring packaging/bill_of_materials.py

.PHONY: help install install-dev demo test thorough deep pythons parsl-next lock mutants lint mypy fuzz bench docs man dashboard pictures deb same-packages lintian wheel container system-test
.SILENT:

help:
	echo 'make install   install the programs into PREFIX/bin (PREFIX=$(PREFIX))'
	echo 'make demo      run a whole site with two users on this machine, then remove it; SLURM=1: on a private Slurm;'
	echo '               VERIFIED=1: signed tasks only, and a hostile broker that tries to run others'
	echo 'make test      run the tests; ARGS="-k NAME" chooses some'
	echo 'make thorough  those too that take long, the packages in a container, and whether every line of root'"'"'s code is tested'
	echo 'make deep      that, and what takes longer: mutants, pythons, same-packages, system-test on the other'
	echo '               supported Debian, and a site with wild users for SOAK_MINUTES=$(SOAK_MINUTES), at random (SOAK_SEED)'
	echo 'make pythons   lint, and the tests that need no RabbitMQ or Slurm, with each Python of $(PYTHONS)'
	echo '               that this machine has; PYTHONS="3.13 3.14" names others, and fails if one is missing'
	echo 'make parsl-next  the tests of what is used of Parsl, with the newest release at the registry'
	echo 'make mutants   take each check of root'"'"'s code away, and see that a test notices; ARGS=WORD chooses some; as root'
	echo 'make lock      packaging/requirements.lock from pyproject.toml; ARGS=--upgrade takes the newest releases'
	echo 'make lint      ruff, mypy --strict, and the size of what root runs beside its bounds'
	echo 'make deb       the Debian packages, in $(DEBS); make wheel: for pip, in build/wheel, with the users'"'"' client'
	echo '               DEBIAN=trixie builds those for Debian 13, in a Debian 13; as root'
	echo 'make same-packages  builds them once more, elsewhere and on another day, and compares the bytes; as root'
	echo 'make system-test  those packages in a container with systemd: restarts, reload, upgrade, watchdog, purge; as root'
	echo '               DEBIAN=trixie tests those for Debian 13, in a Debian 13'
	echo 'make fuzz      the decoders of root and of signed work, fed by a fuzzer for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	echo 'make docs      the manuals as a site, in build/site; fails on a link that leads nowhere'
	echo 'make man       the manual pages, in build/man'
	echo 'make dashboard  packaging/monitoring/twinlock-dashboard.json, after a change of its table'
	echo 'make pictures  those of twinlock top, the console and the dashboard in docs/pictures, from a site that runs'
	echo '               meanwhile; as root'
	echo 'make bench     the spawner beside its budgets, the endpoint beside the official one and in either mode,'
	echo '               the service under floods; as root'

install:
	packaging/debian-packages $(BUILD_PACKAGES)
	packaging/install '$(PREFIX)' all
	packaging/console-assets '$(PREFIX)/share/twinlock-console'
	'$(PREFIX)/bin/python' docs/tools/man.py '$(PREFIX)/share/man'
	packaging/completion '$(PREFIX)'

demo: export PYTHONPATH = testbed
demo:
	packaging/reachable '$(PREFIX)'
	packaging/debian-packages $(BUILD_PACKAGES) $(SITE_PACKAGES) $(if $(SLURM),$(SLURM_PACKAGES)) $(if $(VERIFIED),$(VERIFIED_PACKAGES))
	packaging/install '$(PREFIX)' all,testbed
	exec '$(PREFIX)/bin/python' -m twinlock_testbed --prefix '$(PREFIX)' $(if $(SLURM),--slurm) $(if $(VERIFIED),--verified)

test:
	packaging/reachable '$(PREFIX)'
	$(MAKE) --no-print-directory lint
	$(if $(ROOT),$(if $(THOROUGH),$(MAKE) --no-print-directory container || echo 'no packages or no container: no test under systemd'))
	packaging/debian-packages $(SITE_PACKAGES) $(SLURM_PACKAGES) $(TEST_PACKAGES)
	packaging/peer '$(PREFIX)/peer' $(PEER_VERSION)
	TWINLOCK_THOROUGH=$(THOROUGH) TWINLOCK_PREFIX='$(PREFIX)' tests/run $(ARGS)

thorough:
	$(MAKE) --no-print-directory test THOROUGH=1

deep: install-dev
	$(MAKE) --no-print-directory thorough ARGS=
	$(MAKE) --no-print-directory mutants ARGS=
	$(MAKE) --no-print-directory pythons
	$(MAKE) --no-print-directory same-packages
	set -e; for debian in $(filter-out $(THIS_DEBIAN),$(SUPPORTED_DEBIANS)); do \
	    $(MAKE) --no-print-directory system-test DEBIAN=$$debian ARGS=; \
	done
	packaging/debian-packages $(SITE_PACKAGES)
	SOAK_MINUTES=$(SOAK_MINUTES) SOAK_SEED=$(SOAK_SEED) TWINLOCK_PREFIX='$(PREFIX)' tests/run tests/soak -s

pythons:
	packaging/debian-packages $(BUILD_PACKAGES)
	tests/pythons $(SKIP_MISSING) '$(PREFIX)/pythons' $(PYTHONS)

parsl-next: export TWINLOCK_PARSL = newest
parsl-next: install-dev
	packaging/debian-packages $(SITE_PACKAGES) $(TEST_PACKAGES)
	TWINLOCK_PREFIX='$(PREFIX)' tests/run tests/endpoint/test_parsl_contract.py $(ARGS)

mutants: export PYTHONPATH = testbed:tests/helpers
mutants: install-dev
	'$(PREFIX)/bin/python' tests/mutants/run.py $(ARGS)

install-dev:
	packaging/debian-packages $(BUILD_PACKAGES)
	packaging/install '$(PREFIX)' all,testbed,dev
	packaging/console-assets '$(PREFIX)/share/twinlock-console'

lock:
	packaging/debian-packages python3-venv
	packaging/lock $(ARGS)

lint: install-dev
	'$(PREFIX)/bin/ruff' format --check --quiet .
	'$(PREFIX)/bin/ruff' check --quiet .
	'$(PREFIX)/bin/ruff' check --quiet --select C901 --config 'lint.mccabe.max-complexity=8' shared/twinlock_wire spawner
	$(MAKE) --no-print-directory mypy
	'$(PREFIX)/bin/python' benchmarks/size_report.py

# With what is installed in PREFIX; as if for PYTHON_VERSION, where that is given.
mypy:
	'$(PREFIX)/bin/mypy' $(PYTHON_VERSION:%=--python-version %) $(CODE) tests

fuzz: install-dev
	'$(PREFIX)/bin/python' tests/fuzz/decode.py $(FUZZ_SECONDS)

bench: export PYTHONPATH = testbed:tests/helpers
bench: install-dev
	'$(PREFIX)/bin/python' benchmarks/spawner.py
	packaging/debian-packages $(SITE_PACKAGES)
	packaging/peer '$(PREFIX)/peer' $(PEER_VERSION)
	'$(PREFIX)/bin/python' benchmarks/endpoint.py
	'$(PREFIX)/bin/python' benchmarks/endpoint.py --verified
	'$(PREFIX)/bin/python' benchmarks/service.py

# Into build/man, from the environment in PREFIX: the pages are made of the programs' own parsers and tables.
man: install-dev
	'$(PREFIX)/bin/python' docs/tools/man.py build/man

pictures: install-dev
	packaging/debian-packages $(SITE_PACKAGES) chromium prometheus
	PYTHONPATH=testbed '$(PREFIX)/bin/python' docs/tools/pictures.py --prefix '$(PREFIX)'

dashboard: install-dev
	'$(PREFIX)/bin/python' packaging/monitoring/dashboard.py > packaging/monitoring/twinlock-dashboard.json

docs: export NO_MKDOCS_2_WARNING = 1
docs: install-dev
	'$(PREFIX)/bin/mkdocs' build --quiet --strict
	echo 'the site is in build/site; open build/site/index.html'

# What the system test installs has to be what is tested beside it, so `make thorough` makes the packages as well. They bring
# environments for the Python of one release of Debian, so those for another release are made in a tree of that.
deb:
ifdef OTHER_DEBIAN
	packaging/debian-packages debootstrap
	packaging/debian-tree '$(TREE)-build' $(OTHER_DEBIAN) $(BUILD_TREE_PACKAGES)
	packaging/in-tree '$(TREE)-build' build/$(OTHER_DEBIAN) make deb PREFIX=/opt/twinlock
else
	packaging/debian-packages $(BUILD_PACKAGES) $(DEB_PACKAGES)
	packaging/install '$(PREFIX)' all
	packaging/console-assets '$(PREFIX)/cache/console-assets'
	'$(PREFIX)/bin/python' docs/tools/man.py build/man
	packaging/deb '$(PREFIX)/cache' build/man build/deb
endif

# A Debian with systemd as PID 1 and all that the packages depend on, for the system test; kept in PREFIX.
container: deb
	packaging/debian-packages $(CONTAINER_PACKAGES)
	packaging/debian-tree '$(TREE)' $(DEBIAN) $(TREE_PACKAGES)

system-test: install-dev container
	TWINLOCK_PREFIX='$(PREFIX)' tests/run tests/system/test_systemd.py $(ARGS)

# The packages come from these sources and the locked ones alone.
same-packages: deb
	packaging/debian-packages faketime git
	tests/same-packages $(DEBS)

lintian: deb
	packaging/debian-packages lintian
	lintian --fail-on error $(DEBS)/*.deb

wheel:
	packaging/debian-packages $(BUILD_PACKAGES) dpkg-dev
	packaging/wheel build/wheel
	packaging/install '$(PREFIX)' all
	PYTHONPATH=client '$(PREFIX)/bin/python' docs/tools/client_man.py build/man
	packaging/client-wheel build/man build/wheel
