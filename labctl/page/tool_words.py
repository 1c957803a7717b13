"""The texts of the tools beside the drawing, in the language of the labctl that serves it."""

from collections.abc import Mapping

from labctl.i18n import tr


def tool_words() -> Mapping[str, str]:
    """By the name that the scripts know it by."""
    return {
        "listen": tr("Listen"),
        "walk": tr("Walk"),
        "tools": tr("tools"),
        "tool_close": tr("Close"),
        "interfaces": tr("interfaces"),
        "pcap_filter": tr("pcap filter"),
        "listen_start": tr("Start listening"),
        "listen_stop": tr("Stop"),
        "choose_interfaces": tr("Choose interfaces; packets come in as they pass."),
        "packets_seen": tr("{n} packets, {kept} kept", n="{n}", kept="{kept}"),
        "packets_left_out": tr("{n} more were not decoded", n="{n}"),
        "packets_dropped": tr("the nodes had no time for {n}", n="{n}"),
        "download": tr("Download pcapng"),
        "wireshark": tr("Into Wireshark, in a terminal of your own:"),
        "packets": tr("packets"),
        "flow": tr("flow {n}", n="{n}"),
        "layers": tr("layers"),
        "bytes": tr("bytes"),
        "packet_of": tr("packet of {length} bytes at {place}, {time}",
                        length="{length}", place="{place}", time="{time}"),
        "from": tr("from"),
        "to": tr("to"),
        "protocol": tr("protocol"),
        "port_number": tr("port"),
        "send": tr("Send"),
        "sending": tr("the packet is on its way …"),
        "play": tr("Play"),
        "pause": tr("Pause"),
        "hop_before": tr("Hop before"),
        "hop_next": tr("Next hop"),
        "hop_of": tr("hop {n} of {of}", n="{n}", of="{of}"),
        "before": tr("before"),
        "after": tr("after"),
        "field": tr("field"),
        "asking": tr("asking the lab …"),
        "nat_rule": tr("NAT rule {rule}", rule="{rule}"),
    }  # fmt: skip
