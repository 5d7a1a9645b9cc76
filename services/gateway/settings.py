"""Settings of the gateway; each says what follows from changing it."""

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway needs beside what every service needs."""

    redis_url: SecretStr = Field(
        description="redis://:password@host:port/0. Without Redis everything still works, only slower and with limits per process"
    )
    http_host: str = Field(
        default="127.0.0.1", description="Address of REST, WebSocket and page; 0.0.0.0 lets others in, as in a container"
    )
    http_port: int = Field(default=8080, ge=0, le=65535, description="Port of REST, WebSocket and page; 0 picks a free one")
    trusted_proxies: str = Field(
        default="127.0.0.1",
        description="Addresses (comma separated) whose X-Forwarded-For is believed: whoever is listed can pretend to be any client",
    )
    cookie_secure: bool = Field(
        default=False, description="Mark the session cookie Secure and send HSTS: set it wherever the page is served over HTTPS"
    )
    session_hours: int = Field(default=12, ge=1, le=720, description="How long a sign-in lasts; a longer one is worth more to a thief")
    session_cache_s: float = Field(
        default=3.0,
        ge=0,
        le=60,
        description="How long a session is believed without asking the database: a revoked one lives this much longer on other replicas",
    )
    session_grace_s: float = Field(
        default=300.0,
        ge=0,
        le=3600,
        description="While the database is away, how long signed-in people may go on reading; they can change nothing",
    )
    bcrypt_cost: int = Field(
        default=12, ge=4, le=16, description="Each step doubles the time of a sign-in, and of a guess; below 10 is for tests only"
    )
    sign_in_attempts: int = Field(
        default=10, ge=1, le=1000, description="Failed sign-ins per user name and address in five minutes before 429"
    )
    push_calls_per_minute: int = Field(
        default=60,
        ge=1,
        le=100_000,
        description="Calls of one push address in a minute before 429; ten times as many from one network address",
    )
    ring_events: int = Field(
        default=50_000, ge=1, le=1_000_000, description="Newest events kept for clients that come back; older offsets get a snapshot"
    )
    ring_bytes: int = Field(default=64_000_000, ge=1_000, description="The same in bytes of memory; whichever is reached first")
    ws_max_clients: int = Field(
        default=10_000, ge=1, description="WebSocket clients of one process; more are answered 503 and try elsewhere"
    )
    ws_buffer_bytes: int = Field(
        default=1_000_000,
        ge=10_000,
        description="What may wait for one client that reads slowly, beyond its snapshot; then it is cut off (close 1013)",
    )
    snapshot_every_s: float = Field(
        default=5.0, ge=0.1, le=3600, description="How often a changed read model is saved to Redis, for replicas that start"
    )
    refresh_every_s: float = Field(
        default=60.0, ge=1, le=3600, description="How often the owners are asked for the whole truth, to mend what the feed missed"
    )
    rpc_timeout_s: float = Field(
        default=5.0, ge=0.1, le=60, description="How long another service may take to answer before a request ends in 503 or 504"
    )
