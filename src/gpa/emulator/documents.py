"""The XML that WireServer answers, as small as agents and cloud-init can work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from gpa.emulator.scenario import Machine

SUPPORTED: Final = (
    "2015-04-05", "2012-11-30", "2012-09-15", "2012-05-15", "2011-12-31", "2011-10-15",
    "2011-08-31", "2011-04-07", "2010-12-15", "2010-28-10",
)  # fmt: skip
"""The last one is how the real list has always had it."""

_HEAD: Final = '<?xml version="1.0" encoding="utf-8"?>\n'
_SCHEMA: Final = (
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
)
_ADDRESS: Final = "http://168.63.129.16:80"


def versions() -> str:
    """`/?comp=versions`."""
    supported = "".join(f"\n    <Version>{version}</Version>" for version in SUPPORTED)
    return (
        f"{_HEAD}<Versions {_SCHEMA}>\n"
        f"  <Preferred>\n    <Version>{SUPPORTED[0]}</Version>\n  </Preferred>\n"
        f"  <Supported>{supported}\n  </Supported>\n</Versions>\n"
    )


def container_id(machine: Machine) -> str:
    """Names the VM to WireServer and HostGAPlugin."""
    return machine.vm_id


def instance_id(machine: Machine) -> str:
    """Names the role instance."""
    return f"{machine.vm_id}._{machine.name}"


def goal_state(machine: Machine) -> str:
    """`/machine/?comp=goalstate`."""
    path = f"{_ADDRESS}/machine/{container_id(machine)}/{instance_id(machine)}"
    number = machine.goal_state

    def link(name: str, query: str) -> str:
        target = escape(f"{path}?{query}&incarnation={number}")
        return f"\n          <{name}>{target}</{name}>"

    links = "".join(
        (
            link("HostingEnvironmentConfig", "comp=config&type=hostingEnvironmentConfig"),
            link("SharedConfig", "comp=config&type=sharedConfig"),
            link("ExtensionsConfig", "comp=config&type=extensionsConfig"),
            link("FullConfig", "comp=config&type=fullConfig"),
            link("Certificates", "comp=certificates"),
        )
    )
    return (
        f'{_HEAD}<GoalState {_SCHEMA} xsi:noNamespaceSchemaLocation="goalstate10.xsd">\n'
        "  <Version>2012-11-30</Version>\n"
        f"  <Incarnation>{number}</Incarnation>\n"
        "  <Machine>\n"
        "    <ExpectedState>Started</ExpectedState>\n"
        "    <StopRolesDeadlineHint>300000</StopRolesDeadlineHint>\n"
        "    <LBProbePorts>\n      <Port>16001</Port>\n    </LBProbePorts>\n"
        "    <ExpectHealthReport>FALSE</ExpectHealthReport>\n"
        "  </Machine>\n"
        "  <Container>\n"
        f"    <ContainerId>{container_id(machine)}</ContainerId>\n"
        "    <RoleInstanceList>\n"
        "      <RoleInstance>\n"
        f"        <InstanceId>{escape(instance_id(machine))}</InstanceId>\n"
        "        <State>Started</State>\n"
        f"        <Configuration>{links}\n"
        f"          <ConfigName>{escape(instance_id(machine))}.{number}.xml</ConfigName>\n"
        "        </Configuration>\n"
        "      </RoleInstance>\n"
        "    </RoleInstanceList>\n"
        "  </Container>\n"
        "</GoalState>\n"
    )


def hosting_environment(machine: Machine) -> str:
    """`comp=config&type=hostingEnvironmentConfig`."""
    vm = escape(machine.vm_id)
    role = escape(instance_id(machine))
    return (
        f'{_HEAD}<HostingEnvironmentConfig version="1.0.0.0"'
        f' goalStateIncarnation="{machine.goal_state}">\n'
        '  <StoredCertificates />\n  <Deployment name="emulated" guid="{'
        f'{vm}}}" incarnation="0" isNonCancellableTopologyChangeEnabled="false">\n'
        f'    <Service name="emulated" guid="{{{vm}}}" />\n'
        f'    <ServiceInstance name="emulated" guid="{{{vm}}}" />\n'
        "  </Deployment>\n"
        f'  <Incarnation number="1" instance="{escape(machine.name)}" guid="{{{vm}}}" />\n'
        f'  <Role guid="{{{vm}}}" name="{escape(machine.name)}" hostingEnvironmentVersion="1"'
        ' software="" softwareType="ApplicationPackage" entryPoint="" parameters=""'
        ' settleTimeSeconds="0" />\n'
        '  <HostingEnvironmentSettings name="full" Runtime="emulated" />\n'
        f'  <ResourceReferences>\n    <Resource name="{role}" type="vm" request="emulated" />\n'
        "  </ResourceReferences>\n"
        "</HostingEnvironmentConfig>\n"
    )


def shared_config(machine: Machine) -> str:
    """`comp=config&type=sharedConfig`."""
    name, address = escape(machine.name), escape(machine.private_address)
    return (
        f'{_HEAD}<SharedConfig version="1.0.0.0" goalStateIncarnation="{machine.goal_state}">\n'
        f'  <Deployment name="emulated" guid="{{{machine.vm_id}}}" incarnation="0" />\n'
        f'  <Incarnation number="1" instance="{name}" guid="{{{machine.vm_id}}}" />\n'
        f'  <Role guid="{{{machine.vm_id}}}" name="{name}" settleTimeSeconds="0" />\n'
        "  <Instances>\n"
        f'    <Instance id="{name}" address="{address}">\n'
        '      <FaultDomains randomId="0" updateId="0" updateCount="0" />\n'
        "    </Instance>\n"
        "  </Instances>\n"
        "</SharedConfig>\n"
    )


def extensions_config(machine: Machine) -> str:
    """`comp=config&type=extensionsConfig`: no extension is wanted."""
    return (
        f'{_HEAD}<Extensions version="1.0.0.0" goalStateIncarnation="{machine.goal_state}">\n'
        "  <GuestAgentExtension>\n    <GAFamilies />\n  </GuestAgentExtension>\n"
        "  <Plugins />\n  <PluginSettings />\n"
        '  <StatusUploadBlob statusBlobType="BlockBlob">'
        "https://emulated.blob.core.windows.net/status</StatusUploadBlob>\n"
        "</Extensions>\n"
    )


def full_config(machine: Machine) -> str:
    """`comp=config&type=fullConfig`."""
    return f'{_HEAD}<RDConfig goalStateIncarnation="{machine.goal_state}" />\n'


def remote_access(machine: Machine) -> str:
    """`comp=remoteaccess`: nobody."""
    return (
        f"{_HEAD}<RemoteAccess>\n  <Version>1</Version>\n"
        f"  <Incarnation>{machine.goal_state}</Incarnation>\n  <Users />\n</RemoteAccess>\n"
    )


def certificates(machine: Machine, data: str) -> str:
    """`comp=certificates`: `data` is the encrypted package in base64."""
    return (
        f"{_HEAD}<CertificateFile {_SCHEMA} "
        'xsi:noNamespaceSchemaLocation="certificates10.xsd">\n'
        "  <Version>2010-12-15</Version>\n"
        f"  <Incarnation>{machine.goal_state}</Incarnation>\n"
        "  <Format>Pkcs7BlobWithPfxContents</Format>\n"
        f"  <Data>{data}</Data>\n"
        "</CertificateFile>\n"
    )
