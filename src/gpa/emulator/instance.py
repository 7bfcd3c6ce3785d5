"""`/metadata/instance`: the VM as its metadata service describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpa.emulator.scenario import Machine


def document(machine: Machine) -> dict[str, object]:
    """The whole; every leaf is a string, as clients expect."""
    return {"compute": _compute(machine), "network": _network(machine)}


def as_text(part: object) -> str:
    """`format=text`: a leaf as it is; of a branch the names below, a `/` after what has more."""
    if isinstance(part, dict):
        return "\n".join(_entry(name, below) for name, below in part.items())
    if isinstance(part, list):
        return "\n".join(_entry(str(number), below) for number, below in enumerate(part))
    return str(part)


def resource_id(machine: Machine) -> str:
    """The VM's name in the resource manager."""
    return (
        f"/subscriptions/{machine.subscription}/resourceGroups/{machine.resource_group}"
        f"/providers/Microsoft.Compute/virtualMachines/{machine.name}"
    )


def _entry(name: str, below: object) -> str:
    return f"{name}/" if isinstance(below, dict | list) else name


def _compute(machine: Machine) -> dict[str, object]:
    tags = machine.tags.items()
    return {
        "additionalCapabilities": {"hibernationEnabled": "false", "ultraSSDEnabled": "false"},
        "azEnvironment": "AzurePublicCloud",
        "customData": "",
        "evictionPolicy": "",
        "extendedLocation": {"name": "", "type": ""},
        "host": {"id": ""},
        "hostGroup": {"id": ""},
        "isHostCompatibilityLayerVm": "false",
        "isVmInStandbyPool": "",
        "licenseType": "",
        "location": machine.location,
        "name": machine.name,
        "offer": "debian-13",
        "osProfile": {
            "adminUsername": "azureuser",
            "computerName": machine.name,
            "disablePasswordAuthentication": "true",
        },
        "osType": "Linux",
        "physicalZone": "",
        "placementGroupId": "",
        "plan": {"name": "", "product": "", "publisher": ""},
        "platformFaultDomain": "0",
        "platformSubFaultDomain": "",
        "platformUpdateDomain": "0",
        "priority": "Regular",
        "provider": "Microsoft.Compute",
        "publicKeys": [],
        "publisher": "debian",
        "resourceGroupName": machine.resource_group,
        "resourceId": resource_id(machine),
        "securityProfile": {
            "encryptionAtHost": "false",
            "secureBootEnabled": "true",
            "securityType": "TrustedLaunch",
            "virtualTpmEnabled": "true",
        },
        "sku": "13-gen2",
        "storageProfile": _storage(machine),
        "subscriptionId": machine.subscription,
        "tags": ";".join(f"{name}:{value}" for name, value in tags),
        "tagsList": [{"name": name, "value": value} for name, value in tags],
        "userData": machine.user_data,
        "version": "0.20260101.1",
        "virtualMachineScaleSet": {"id": ""},
        "vmId": machine.vm_id,
        "vmScaleSetName": "",
        "vmSize": machine.size,
        "zone": "1",
    }


def _storage(machine: Machine) -> dict[str, object]:
    return {
        "dataDisks": [],
        "imageReference": {
            "communityGalleryImageId": "",
            "exactVersion": "0.20260101.1",
            "id": "",
            "offer": "debian-13",
            "publisher": "debian",
            "sharedGalleryImageId": "",
            "sku": "13-gen2",
            "version": "latest",
        },
        "osDisk": {
            "caching": "ReadWrite",
            "createOption": "FromImage",
            "diffDiskSettings": {"option": ""},
            "diskSizeGB": "30",
            "encryptionSettings": {"enabled": "false"},
            "image": {"uri": ""},
            "managedDisk": {"id": "", "storageAccountType": "Premium_LRS"},
            "name": f"{machine.name}_OsDisk",
            "osType": "Linux",
            "vhd": {"uri": ""},
            "writeAcceleratorEnabled": "false",
        },
        "resourceDisk": {"size": "76800"},
    }


def _network(machine: Machine) -> dict[str, object]:
    network, _, _ = machine.private_address.rpartition(".")
    return {
        "interface": [
            {
                "ipv4": {
                    "ipAddress": [
                        {
                            "privateIpAddress": machine.private_address,
                            "publicIpAddress": machine.public_address,
                        }
                    ],
                    "subnet": [{"address": f"{network}.0", "prefix": "24"}],
                },
                "ipv6": {"ipAddress": []},
                "macAddress": "000D3A000001",
            }
        ]
    }
