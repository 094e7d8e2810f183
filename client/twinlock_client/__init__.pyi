from twinlock_signed.errors import Refused as Refused

from twinlock_client.executor import SignedExecutor as SignedExecutor
from twinlock_client.results import ResultRefused as ResultRefused
from twinlock_client.results import UnsignedFailure as UnsignedFailure
