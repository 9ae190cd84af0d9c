"""Settings of the DICOM node."""

from __future__ import annotations

from pydantic import Field

from fvv.config.base import AETitle, DestinationText, OneLine, Settings


class ListenConfig(Settings):
    """The DICOM node of `fvv listen`."""

    port: int = Field(default=11112, ge=1, le=65535)
    """TCP port to listen on."""
    aet: AETitle = "FVV"
    """Application entity title of the node; senders must call it by this name."""
    bind: OneLine = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every network interface."""
    send_to: tuple[DestinationText, ...] = ()
    """Destination of the results, NAME=AET@HOST:PORT; may be repeated."""
    peers: tuple[AETitle, ...] = ()
    """Application entity title that may send; may be repeated (default: any). A title is no proof of who sends: TLS
    with authorities, or a firewall, is."""
    quiet_s: float = Field(default=30.0, gt=0)
    """Seconds without a further object after which a study is complete; a storage commitment request that names all its
    objects completes it at once."""
    silent_s: float = Field(default=120.0, gt=0)
    """The same while the sender of its last object keeps its association open, where this is longer; a minute later a
    silent association is ended."""
    aborted_s: float = Field(default=600.0, gt=0)
    """Seconds that a study whose transfer was cut off waits for the sender to repeat it; then it is reported as
    incomplete, or answered where the sender did not abort it but the node was stopped."""
    keep_days: float = Field(default=7.0, ge=0)
    """Days after which a finished study is removed from the spool."""
    keep_failed_days: float = Field(default=30.0, ge=0)
    """Days after which a study that failed is removed from the spool."""
    send_days: float = Field(default=7.0, gt=0)
    """Days over which a result that a destination does not take is offered again."""
    series: tuple[OneLine, ...] = ()
    """Only objects whose SeriesDescription matches one of these patterns, such as "*dwi*"; case does not count."""
    stations: tuple[OneLine, ...] = ()
    """Only objects whose StationName matches one of these patterns."""
    body_parts: tuple[OneLine, ...] = ()
    """Only objects whose BodyPartExamined matches one of these patterns; "" is a missing one."""
    report_unanswered: bool = True
    """Send a report with the reason for a study that has no answer (no diffusion images, not assessable)."""
    max_object_mb: float = Field(default=1024.0, gt=0)
    """Largest image that is accepted, MB; a longer one is refused with status 0xC000. No object is held in memory."""
    min_free_mb: float = Field(default=2048.0, ge=0)
    """Free disk space below which objects are refused with status 0xA700, MB."""
    page: int = Field(default=0, ge=0, le=65535)
    """TCP port of a page with the queue, for a browser on this machine alone; 0: no page."""
    answer_s: float = Field(default=1800.0, gt=0)
    """Seconds after which a worker is ended; a study that ends three workers has failed."""
    tls_certificate: OneLine = ""
    """PEM file of the node's certificate; with it only TLS connections are accepted (DICOM PS3.15, BCP 195)."""
    tls_key: OneLine = ""
    """PEM file of the certificate's private key."""
    tls_authorities: OneLine = ""
    """PEM file of the authorities that sign the certificates of senders and destinations."""
    send_tls: bool = False
    """Send results over TLS."""
