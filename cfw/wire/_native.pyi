from ._pure import Payload as Payload
from ._pure import take_messages as take_messages
from ._pure import unmask as unmask
