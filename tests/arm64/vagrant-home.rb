# ~/.vagrant.d/Vagrantfile of tests/arm64. An emulated machine on a busy host gets a tenth of a
# processor, and the plugin waits 300 times two seconds for its address, whatever `boot_timeout` is.
require "vagrant-libvirt/action"

module LabctlPatience
  def retryable(tries: 1, **options, &block)
    super(tries: tries * 10, **options, &block)
  end
end
VagrantPlugins::ProviderLibvirt::Action::WaitTillUp.prepend(LabctlPatience)
